/* A post office, its devices and applications on one loop, and one whose broker is apart: login, put and confirm, away and back, an outbox that outlasts the
 * process, a full one, presence, broadcasts, and credentials that do not hold or hold no more. */
#include "post.h"

#include <signal.h>
#include <sys/resource.h>

static char directory[] = "/tmp/hailpost-XXXXXX";

static const char *in_directory(char *path, size_t size, const char *name)
{
    CHECK((size_t)snprintf(path, size, "%s/%s", directory, name) < size);
    return path;
}

/* Anna and Bert, each with a device, and their office. */
typedef struct {
    hail_loop *loop;
    hail_office *office;
    uint16_t port;
    credential anna, bert;
    told by_office, by_anna, by_bert;
} scene;

static void begin(scene *all)
{
    memset(all, 0, sizeof *all);
    CHECK_IS(hail_loop_new(&all->loop), HAIL_OK);
    all->office = office_on(all->loop, &all->by_office, NULL, &all->port);
    all->anna = enrol(all->loop, all->office, &all->by_office, "anna", 1);
    all->bert = enrol(all->loop, all->office, &all->by_office, "bert", 1);
}

static void end(scene *all)
{
    hail_office_free(all->office);
    hail_loop_free(all->loop);
    hail_buffer_free(all->anna.line);
    hail_buffer_free(all->bert.line);
}

static hail_device *login(scene *all, told *by, const credential *who, const char *store)
{
    uint64_t before = by->count[HAIL_EVENT_WELCOME];
    hail_device *device = device_on(all->loop, by, who->line, store);
    turn_until(all->loop, by, HAIL_EVENT_WELCOME, before + 1);
    CHECK_IS(hail_device_is_up(device), 1);
    return device;
}

/* Turns two loops, as of two machines. */
static void turn_both(hail_loop *one, hail_loop *other)
{
    const hail_event *event;
    hail_loop *const both[] = {one, other};
    for (int at = 0; at < 2; at++) {
        hail_status status = hail_loop_run(both[at], 10);
        CHECK(status == HAIL_OK || status == HAIL_ERR_TIMEOUT);
        while ((event = hail_loop_next_event(both[at])) != NULL)
            told_event(event);
    }
}

static void device_login(void)
{
    scene all;
    begin(&all);
    hail_device *device = device_on(all.loop, &all.by_anna, all.anna.line, NULL);
    CHECK_IS(hail_device_is_up(device), 0);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_LOGGED_IN, 1);
    CHECK_IS(all.by_anna.resumed, 0);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_WELCOME, 1);
    CHECK(all.by_anna.waiting == 0 && all.by_anna.missed == 0);
    CHECK_IS(hail_device_is_up(device), 1);
    CHECK_IS(device_counter(all.loop, device, "link.sessions"), 1);
    CHECK_IS(office_counter(all.loop, all.office, "link.sessions"), 1);

    /* The line is the office's key and a credential; what else the key is good for is the caller's. */
    const char *line = (const char *)hail_buffer_data(all.anna.line), *space = strchr(line, ' ');
    uint8_t key[32] = {0};
    CHECK_OK(all.loop, hail_office_key(all.office, key));
    CHECK(key[0] | key[1] | key[2]);
    CHECK(strncmp(line, "hail://127.0.0.1:", 17) == 0 && strstr(line, "?key=") != NULL);
    CHECK(space != NULL && strlen(space + 1) == 64);

    CHECK_OK(all.loop, hail_device_close(device));
    turn(all.loop);
    CHECK_IS(hail_device_is_up(device), 0);
    hail_device_free(device);
    end(&all);
}

static void device_put_and_confirm(void)
{
    scene all;
    uint64_t number = 0, waited = 0;
    size_t pending = 9;
    begin(&all);
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    number = put_text(all.loop, anna, "user:bert", "hello");
    CHECK_IS(hail_device_pending(anna, &pending), HAIL_OK);
    CHECK_IS(pending, 1);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 1);
    CHECK(all.by_anna.count[HAIL_EVENT_STORED] == 1 && all.by_anna.number == number);
    CHECK(strcmp(all.by_anna.state, "queued") == 0);
    CHECK_IS(hail_device_pending(anna, &pending), HAIL_OK);
    CHECK_IS(pending, 0);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_bert.body, "hello") == 0 && strcmp(all.by_bert.sender, "user:anna") == 0);
    CHECK_IS(all.by_bert.redelivered, 0);
    CHECK_OK(all.loop, hail_device_confirm(bert, all.by_bert.sequence));
    CHECK_IS(hail_device_confirm(bert, all.by_bert.sequence), HAIL_ERR_NOT_FOUND);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_CONFIRMED, 1);

    /* One that is durable when the call is back, before any turn; and the event tells it too. */
    const uint8_t body[] = "waited";
    CHECK_OK(all.loop, hail_device_put_wait(anna, "user:bert,user:anna", 1, 60, "text/x-note", body, 6, 0, &waited));
    CHECK(waited > number && all.by_anna.count[HAIL_EVENT_STORED] == 1);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_MESSAGE, 1);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 2);
    CHECK(strcmp(all.by_anna.body, "waited") == 0 && strcmp(all.by_bert.body, "waited") == 0);
    CHECK_OK(all.loop, hail_device_put_wait(anna, "user:bert", 0, 0, NULL, NULL, 0, -1, NULL));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_STORED, 3);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 3);
    CHECK(strcmp(all.by_bert.body, "") == 0);

    /* Nobody by that name: the office says so. */
    put_text(all.loop, anna, "user:nobody", "?");
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_REJECTED, 1);
    CHECK_IS(all.by_anna.code, 404);

    /* A wish is answered by its number. */
    uint64_t request = 0;
    CHECK_OK(all.loop, hail_device_keep(bert, 0, &request));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_ANSWER, 1);
    CHECK(all.by_bert.request == request && all.by_bert.code == 200);
    CHECK_OK(all.loop, hail_device_subscribe(bert, "nothing", 1, &request));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_ANSWER, 2);
    CHECK(all.by_bert.request == request && all.by_bert.code == 404);
    CHECK_IS(device_counter(all.loop, bert, "shown"), 3);
    CHECK_IS(office_counter(all.loop, all.office, "hub.messages"), 3);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* What came while it was away comes when it is back, in order; what it showed and did not confirm comes again and says so;
 * what it confirmed does not. */
static void device_away_and_back(void)
{
    scene all;
    char store[64];
    begin(&all);
    in_directory(store, sizeof store, "bert.db");
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_device *bert = login(&all, &all.by_bert, &all.bert, store);
    hail_device_free(bert);
    put_text(all.loop, anna, "user:bert", "one");
    put_text(all.loop, anna, "user:bert", "two");
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 2);

    bert = login(&all, &all.by_bert, &all.bert, store);
    CHECK_IS(all.by_bert.waiting, 2);
    CHECK_IS(all.by_bert.resumed, 1);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_bert.body, "one") == 0 || all.by_bert.count[HAIL_EVENT_MESSAGE] == 2);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 2);
    CHECK(strcmp(all.by_bert.body, "two") == 0 && all.by_bert.redelivered == 0);
    CHECK_OK(all.loop, hail_device_confirm(bert, all.by_bert.sequence));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_CONFIRMED, 1);
    hail_device_free(bert);

    bert = login(&all, &all.by_bert, &all.bert, store);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 3);
    CHECK(strcmp(all.by_bert.body, "one") == 0 && all.by_bert.redelivered == 1);
    CHECK_OK(all.loop, hail_device_confirm(bert, all.by_bert.sequence));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_CONFIRMED, 2);
    put_text(all.loop, anna, "user:bert", "three");
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 4);
    CHECK(strcmp(all.by_bert.body, "three") == 0);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* What is stored before there is any office is sent by the next process, once. */
/* A platform that sleeps: its loop has nothing due, and what waited comes when it wakes. */
static void device_suspended(void)
{
    scene all;
    told by_phone = {0};
    hail_loop *phone = NULL;
    begin(&all);
    CHECK_IS(hail_loop_new(&phone), HAIL_OK);
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_device *bert = device_on(phone, &by_phone, all.bert.line, NULL);
    while (by_phone.count[HAIL_EVENT_WELCOME] == 0)
        turn_both(phone, all.loop);
    CHECK_OK(phone, hail_device_resume(bert));
    CHECK_OK(phone, hail_device_set_metered(bert, 1));
    CHECK_IS(hail_device_set_metered(bert, 2), HAIL_ERR_INVALID);
    CHECK_OK(phone, hail_device_suspend(bert, 3600));
    CHECK_IS(hail_device_suspend(bert, 3600), HAIL_ERR_STATE);
    while (by_phone.count[HAIL_EVENT_SUSPENDED] == 0)
        turn_both(phone, all.loop);
    CHECK_IS(by_phone.told, 1);
    turn(phone);
    CHECK_IS(hail_loop_timeout_ms(phone), -1);
    put_text(all.loop, anna, "user:bert", "are you awake");
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 1);
    CHECK(strcmp(all.by_anna.state, "queued") == 0);
    CHECK_OK(phone, hail_loop_step(phone));
    CHECK(hail_loop_next_event(phone) == NULL);
    CHECK_IS(hail_device_is_up(bert), 1);
    CHECK_OK(phone, hail_device_resume(bert));
    while (by_phone.count[HAIL_EVENT_MESSAGE] == 0)
        turn_both(phone, all.loop);
    CHECK(strcmp(by_phone.body, "are you awake") == 0);
    CHECK_IS(device_counter(phone, bert, "link.sessions"), 1);
    hail_device_free(anna);
    hail_device_free(bert);
    hail_loop_free(phone);
    end(&all);
}

static void device_outbox_survives(void)
{
    scene all;
    char store[64];
    size_t pending = 9;
    told before = {0};
    begin(&all);
    in_directory(store, sizeof store, "anna.db");
    hail_loop *alone = NULL;
    CHECK_IS(hail_loop_new(&alone), HAIL_OK);
    hail_device *anna = device_on(alone, &before, all.anna.line, store);
    uint64_t number = put_text(alone, anna, "user:bert", "from before");
    turn_until(alone, &before, HAIL_EVENT_STORED, 1);
    CHECK_IS(before.number, number);
    /* The office's loop did not turn, so nobody answered. */
    CHECK(before.count[HAIL_EVENT_ACCEPTED] == 0 && hail_device_is_up(anna) == 0);
    hail_device_free(anna);
    hail_loop_free(alone);

    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    anna = device_on(all.loop, &all.by_anna, all.anna.line, store);
    CHECK_IS(hail_device_pending(anna, &pending), HAIL_OK);
    CHECK_IS(pending, 1);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 1);
    CHECK_IS(all.by_anna.number, number);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_bert.body, "from before") == 0);
    put_text(all.loop, anna, "user:bert", "from now");
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 2);
    CHECK(strcmp(all.by_bert.body, "from now") == 0);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* At the bound messages are refused, and an event says when there is room again. */
static void full_outbox(void)
{
    scene all;
    uint64_t number = 9;
    begin(&all);
    hail_device *anna = device_with(all.loop, &all.by_anna, all.anna.line, NULL, (const char *[]){"max_outbox", "2", NULL});
    put_text(all.loop, anna, "user:bert", "one");
    put_text(all.loop, anna, "user:bert", "two");
    CHECK_IS(hail_device_put(anna, "user:bert", 1, 0, NULL, NULL, 0, &number), HAIL_ERR_FULL);
    CHECK_IS(hail_device_put_wait(anna, "user:bert", 1, 0, NULL, NULL, 0, -1, &number), HAIL_ERR_FULL);
    CHECK_IS(number, 9);
    CHECK(strstr(hail_loop_detail(all.loop), "outbox") != NULL);
    CHECK_IS(device_counter(all.loop, anna, "full"), 2);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_WRITABLE, 1);
    put_text(all.loop, anna, "user:bert", "three");
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 3);
    CHECK(strcmp(all.by_anna.state, "stored") == 0);
    hail_device_free(anna);
    end(&all);
}

/* A disk that takes nothing: a put that waits comes back at its limit, with the number of a message that is kept, and told to
 * be stored when the disk works again. */
static void full_disk(void)
{
    scene all;
    char store[64];
    uint64_t number = 0;
    size_t pending = 0;
    struct rlimit limit, before;
    begin(&all);
    in_directory(store, sizeof store, "full.db");
    hail_device *anna = login(&all, &all.by_anna, &all.anna, store);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_IS(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 0;
    CHECK_IS(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_IS(hail_device_put_wait(anna, "user:bert", 1, 0, NULL, NULL, 0, 50, &number), HAIL_ERR_TIMEOUT);
    CHECK(number != 0 && strstr(hail_loop_detail(all.loop), "outbox") != NULL);
    CHECK_OK(all.loop, hail_device_pending(anna, &pending));
    CHECK_IS(pending, 1);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_STORE_FAILING, 1);
    CHECK(all.by_anna.count[HAIL_EVENT_STORED] == 0 && all.by_anna.count[HAIL_EVENT_ACCEPTED] == 0);
    CHECK_IS(setrlimit(RLIMIT_FSIZE, &before), 0);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_STORE_RECOVERED, 1);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_STORED, 1);
    CHECK_IS(all.by_anna.number, number);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_ACCEPTED, 1);
    hail_device_free(anna);
    end(&all);
}

static void presence_query(void)
{
    scene all;
    uint64_t request = 0;
    begin(&all);
    hail_device *anna = device_on(all.loop, &all.by_anna, all.anna.line, NULL);
    CHECK_IS(hail_device_query(anna, "bert", &request), HAIL_ERR_STATE);
    CHECK_IS(request, 0);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_WELCOME, 1);
    CHECK_OK(all.loop, hail_device_query(anna, "anna,bert", &request));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_PRESENCE, 2);
    CHECK(strcmp(all.by_anna.user, "bert") == 0 && all.by_anna.online == 0 && all.by_anna.request == request);
    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    CHECK_OK(all.loop, hail_device_query(anna, "bert", &request));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_PRESENCE, 3);
    CHECK(all.by_anna.online == 1 && all.by_anna.request == request);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* A credential that another office gave; and one that was right but for its secret. */
static void refused_credential(void)
{
    scene all, other;
    char line[256], *last;
    begin(&all);
    begin(&other);
    snprintf(line, sizeof line, "%s", (const char *)hail_buffer_data(all.anna.line));
    const char *theirs = strchr((const char *)hail_buffer_data(other.anna.line), ' ');
    last = strchr(line, ' ');
    memcpy(last, theirs, 65);
    hail_config *config = check_config((const char *[]){"credential", line, NULL});
    hail_device *stranger = NULL;
    CHECK_OK(all.loop, hail_device_new(all.loop, config, &all.by_anna, &stranger));
    hail_config_free(config);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_REFUSED, 1);
    CHECK(hail_device_is_up(stranger) == 0 && all.by_anna.count[HAIL_EVENT_LOGGED_IN] == 0);
    hail_device_free(stranger);

    /* An application with another's secret. */
    char url[64];
    hail_app *nobody = NULL;
    told by_nobody = {0};
    office_apps(all.office, url, sizeof url);
    config = check_config((const char *[]){"office", url, "app", "news", "app_secret", "guessed", NULL});
    CHECK_OK(all.loop, hail_app_new(all.loop, config, &by_nobody, &nobody));
    hail_config_free(config);
    turn_until(all.loop, &by_nobody, HAIL_EVENT_REFUSED, 1);
    hail_app_free(nobody);
    end(&other);
    end(&all);
}

/* The office asks about a session id that its store does not know: a no, and a yes that gets what was sent meanwhile. */
static void credentials_of_others(void)
{
    static const uint8_t zeros[32];
    char line[256];
    told by_office = {0}, by_stranger = {0}, by_guest = {0};
    hail_loop *loop = NULL;
    hail_office *office = NULL;
    hail_device *stranger = NULL, *guest = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_config *config = check_config((const char *[]){"listen_devices", "hail://127.0.0.1:0", "listen_apps", "",
                                                         "ask_authentication", "true", NULL});
    CHECK_OK(loop, hail_office_new(loop, config, &by_office, &office));
    hail_config_free(config);
    credential anna = enrol(loop, office, &by_office, "anna", 1);
    snprintf(line, sizeof line, "%s", (const char *)hail_buffer_data(anna.line));
    /* Session id and secret are zeros. */
    memset(strchr(line, ' ') + 1, 'A', 64);
    config = check_config((const char *[]){"credential", line, NULL});
    CHECK_OK(loop, hail_device_new(loop, config, &by_stranger, &stranger));
    turn_until(loop, &by_office, HAIL_EVENT_AUTHENTICATE, 1);
    CHECK_OK(loop, hail_office_refuse(office, by_office.ticket));
    turn_until(loop, &by_stranger, HAIL_EVENT_REFUSED, 1);
    hail_device_free(stranger);

    CHECK_OK(loop, hail_device_new(loop, config, &by_guest, &guest));
    turn_until(loop, &by_office, HAIL_EVENT_AUTHENTICATE, 2);
    CHECK_IS(hail_office_admit(office, by_office.ticket, "no spaces", zeros, zeros, 0), HAIL_ERR_INVALID);
    CHECK_OK(loop, hail_office_admit(office, by_office.ticket, "guest", zeros, zeros, 0));
    turn_until(loop, &by_guest, HAIL_EVENT_WELCOME, 1);
    hail_device *sender = device_on(loop, &by_stranger, anna.line, NULL);
    put_text(loop, sender, "user:guest", "welcome");
    turn_until(loop, &by_guest, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(by_guest.body, "welcome") == 0);
    hail_config_free(config);
    hail_device_free(sender);
    hail_device_free(guest);
    hail_office_free(office);
    hail_loop_free(loop);
    hail_buffer_free(anna.line);
}

static void revoked_device(void)
{
    scene all;
    uint64_t ticket = 0;
    begin(&all);
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    CHECK_OK(all.loop, hail_office_revoke_device(all.office, all.anna.session_id, &ticket));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_DOWN, 1);
    CHECK_IS((hail_status)all.by_anna.first_down, HAIL_ERR_REFUSED);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_REFUSED, 1);
    turn_durable(all.loop, &all.by_office, ticket);
    CHECK(hail_device_is_up(anna) == 0 && hail_device_is_up(bert) == 1);
    hail_device_free(anna);
    anna = device_on(all.loop, &all.by_anna, all.anna.line, NULL);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_REFUSED, 2);
    CHECK_IS(all.by_anna.count[HAIL_EVENT_LOGGED_IN], 1);

    /* Nobody has that one; and the user can have another. */
    const uint8_t none[16] = {9};
    CHECK_OK(all.loop, hail_office_revoke_device(all.office, none, &ticket));
    turn_until(all.loop, &all.by_office, HAIL_EVENT_FAILED, 1);
    CHECK(all.by_office.ticket == ticket && (hail_status)all.by_office.status == HAIL_ERR_NOT_FOUND);
    all.by_office.count[HAIL_EVENT_FAILED] = 0;
    credential again = enrol(all.loop, all.office, &all.by_office, "anna", 0);
    hail_device *other = login(&all, &all.by_anna, &again, NULL);
    hail_device_free(other);
    hail_buffer_free(again.line);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* An application of the office, logged in. */
static hail_app *app_on(scene *all, told *by, const char *name, uint32_t rights)
{
    char url[64];
    uint64_t ticket = 0, before = by->count[HAIL_EVENT_LOGGED_IN];
    hail_buffer *secret = NULL;
    hail_app *app = NULL;
    CHECK_OK(all->loop, hail_office_add_app(all->office, name, rights, &secret, &ticket));
    turn_durable(all->loop, &all->by_office, ticket);
    office_apps(all->office, url, sizeof url);
    hail_config *config = check_config((const char *[]){"office", url, "app", name, NULL});
    CHECK_IS(hail_config_set_bytes(config, "app_secret", hail_buffer_data(secret), hail_buffer_size(secret)), HAIL_OK);
    hail_buffer_free(secret);
    CHECK_OK(all->loop, hail_app_new(all->loop, config, by, &app));
    hail_config_free(config);
    turn_until(all->loop, by, HAIL_EVENT_LOGGED_IN, before + 1);
    return app;
}

static hail_message message_to(const char *to, const char *text)
{
    hail_message message;
    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    message.flags = HAIL_MESSAGE_KEEP;
    message.to = to;
    message.body = (const uint8_t *)text;
    message.body_size = strlen(text);
    return message;
}

static uint64_t app_counter(hail_loop *loop, const hail_app *app, const char *name)
{
    uint64_t value = 0;
    CHECK_OK(loop, hail_app_counter(app, name, &value));
    return value;
}

/* To one, to those who follow it, to another application; the same id is delivered once; and what none has yet is withdrawn. */
static void app_sends(void)
{
    scene all;
    told by_news = {0}, by_log = {0};
    char id[HAIL_ID_SIZE];
    size_t pending = 9;
    begin(&all);
    hail_app *news = app_on(&all, &by_news, "news", HAIL_RIGHT_SEND | HAIL_RIGHT_QUERY);
    hail_app *log = app_on(&all, &by_log, "log", HAIL_RIGHT_SEND);
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_message message = message_to("user:anna", "breaking");
    message.content_type = "text/x-news";
    CHECK_OK(all.loop, hail_app_send(news, &message, id));
    CHECK(strlen(id) > 0);
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 1);
    CHECK(by_news.code == 200 && strcmp(by_news.id, id) == 0 && strcmp(by_news.state, "queued") == 0);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_anna.body, "breaking") == 0 && strcmp(all.by_anna.sender, "app:news") == 0);
    CHECK_OK(all.loop, hail_device_confirm(anna, all.by_anna.sequence));

    for (int again = 0; again < 2; again++) {
        message.id = "17";
        CHECK_OK(all.loop, hail_app_send(news, &message, NULL));
        CHECK_IS(hail_app_send(news, &message, NULL), HAIL_ERR_STATE);
        turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 2 + (uint64_t)again);
        CHECK(by_news.code == 200 && strcmp(by_news.id, "17") == 0);
    }
    message = message_to("user:anna", "something else");
    message.id = "17";
    CHECK_OK(all.loop, hail_app_send(news, &message, id));
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 4);
    CHECK(by_news.code == 409 && strcmp(id, "17") == 0);

    /* Bert is away, so that it can be withdrawn; what Anna confirmed is gone. */
    message = message_to("user:bert", "wrong");
    CHECK_OK(all.loop, hail_app_send(news, &message, id));
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 5);
    CHECK(strcmp(by_news.state, "stored") == 0);
    CHECK_OK(all.loop, hail_app_cancel(news, id));
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 6);
    CHECK(by_news.code == 200 && strcmp(by_news.id, id) == 0);
    CHECK_OK(all.loop, hail_app_cancel(news, "17"));
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, 7);
    CHECK_IS(by_news.code, 409);

    /* Who follows it. */
    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    CHECK_IS(all.by_bert.waiting, 0);
    CHECK_OK(all.loop, hail_device_subscribe(bert, "news", 1, NULL));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_ANSWER, 1);
    CHECK_IS(all.by_bert.code, 200);
    message = message_to("*", "for followers");
    CHECK_OK(all.loop, hail_app_send(news, &message, NULL));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_bert.body, "for followers") == 0);
    CHECK_OK(all.loop, hail_device_subscribe(bert, "news", 0, NULL));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_ANSWER, 2);

    /* Between applications, and from a device to one. */
    message = message_to("app:log", "noted");
    CHECK_OK(all.loop, hail_app_send(news, &message, NULL));
    turn_until(all.loop, &by_log, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(by_log.body, "noted") == 0 && strcmp(by_log.sender, "app:news") == 0);
    CHECK_OK(all.loop, hail_app_confirm(log, by_log.sequence));
    CHECK_IS(hail_app_confirm(log, by_log.sequence), HAIL_ERR_NOT_FOUND);
    put_text(all.loop, anna, "app:log", "a reading");
    turn_until(all.loop, &by_log, HAIL_EVENT_MESSAGE, 2);
    CHECK(strcmp(by_log.body, "a reading") == 0 && strcmp(by_log.sender, "user:anna") == 0);
    CHECK_OK(all.loop, hail_app_confirm(log, by_log.sequence));
    for (long long end = check_ms() + 60000; pending != 0; turn(all.loop)) {
        CHECK_OK(all.loop, hail_app_pending(log, &pending));
        CHECK(check_ms() < end);
    }
    CHECK(app_counter(all.loop, log, "confirmed") == 2 && app_counter(all.loop, news, "logins") == 1);
    CHECK(all.by_anna.count[HAIL_EVENT_MESSAGE] == 2 && all.by_bert.count[HAIL_EVENT_MESSAGE] == 1);

    /* Only who may. */
    message = message_to("*", "for all");
    message.flags = HAIL_MESSAGE_BROADCAST;
    uint64_t answered = by_news.count[HAIL_EVENT_ANSWERED];
    CHECK_OK(all.loop, hail_app_send(news, &message, NULL));
    turn_until(all.loop, &by_news, HAIL_EVENT_ANSWERED, answered + 1);
    CHECK_IS(by_news.code, 403);
    CHECK_OK(all.loop, hail_app_query(news, "anna", id));
    turn_until(all.loop, &by_news, HAIL_EVENT_PRESENCE, 1);
    CHECK(by_news.online == 1 && strcmp(by_news.user, "anna") == 0 && strcmp(by_news.id, id) == 0);
    hail_app_free(log);
    hail_app_free(news);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* To everybody who is there; and for an hour, once to each who comes. */
static void broadcast(void)
{
    scene all;
    told by_town = {0};
    uint64_t now = (uint64_t)time(NULL);
    begin(&all);
    hail_app *town = app_on(&all, &by_town, "town", HAIL_RIGHT_BROADCAST);
    hail_device *anna = login(&all, &all.by_anna, &all.anna, NULL);
    hail_message message = message_to("*", "water is off");
    message.flags = HAIL_MESSAGE_BROADCAST;
    CHECK_OK(all.loop, hail_app_send(town, &message, NULL));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_anna.body, "water is off") == 0 && strcmp(all.by_anna.sender, "app:town") == 0);
    message = message_to("*", "water is back at noon");
    message.flags = HAIL_MESSAGE_BROADCAST;
    message.period_start = now - 60;
    message.period_end = now + 3600;
    CHECK_OK(all.loop, hail_app_send(town, &message, NULL));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_MESSAGE, 2);
    turn_until(all.loop, &by_town, HAIL_EVENT_ANSWERED, 2);
    hail_device *bert = login(&all, &all.by_bert, &all.bert, NULL);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(all.by_bert.body, "water is back at noon") == 0);
    CHECK_OK(all.loop, hail_device_confirm(bert, all.by_bert.sequence));
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_CONFIRMED, 1);
    hail_device_free(anna);
    hail_device_free(bert);
    hail_app_free(town);
    end(&all);
}

/* An office that drains tells its devices, and takes nobody new. */
static void draining(void)
{
    scene all;
    begin(&all);
    /* It hears of it with the next heartbeat: the shortest pause there is. */
    const char *const often[] = {"keepalive_s", "10", NULL};
    hail_device *anna = device_with(all.loop, &all.by_anna, all.anna.line, NULL, often);
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_WELCOME, 1);
    CHECK_OK(all.loop, hail_office_drain(all.office, 1));
    turn_until(all.loop, &all.by_anna, HAIL_EVENT_DRAINING, 1);
    hail_device *bert = device_on(all.loop, &all.by_bert, all.bert.line, NULL);
    turn_until(all.loop, &all.by_bert, HAIL_EVENT_REFUSED, 1);
    hail_device_free(anna);
    hail_device_free(bert);
    end(&all);
}

/* A key in memory, and its id as text. */
static hail_buffer *key_of(const char *name, char *id)
{
    hail_buffer *pem = NULL;
    uint8_t octets[32];
    CHECK_IS(hail_identity_generate(name, &pem, octets, NULL), HAIL_OK);
    for (int at = 0; at < 32; at++)
        snprintf(id + 2 * at, 3, "%02x", octets[at]);
    return pem;
}

/* A hub, and a broker that holds its devices' sessions: the same call makes both. */
static void brokers(void)
{
    told by_hub = {0}, by_broker = {0}, by_anna = {0};
    char hub_id[65], broker_id[65], where[160], url[64];
    hail_loop *loop = NULL;
    hail_office *hub = NULL, *broker = NULL;
    const char *address = NULL;
    uint16_t port = 0;
    uint8_t key[32], same[32], session[16];
    uint64_t ticket = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_buffer *hub_pem = key_of("hub", hub_id), *broker_pem = key_of("broker", broker_id);

    hail_config *config = check_config((const char *[]){"roles", "hub", "listen_apps", "", "listen_inner",
                                                        "tls://127.0.0.1:0", "brokers", broker_id, NULL});
    CHECK_IS(hail_config_set_bytes(config, "identity_pem", hail_buffer_data(hub_pem), hail_buffer_size(hub_pem)), HAIL_OK);
    CHECK_OK(loop, hail_office_new(loop, config, &by_hub, &hub));
    hail_config_free(config);
    CHECK_OK(loop, hail_office_address(hub, 0, &address, &port));
    CHECK_IS(hail_office_address(hub, 1, &address, &port), HAIL_ERR_NOT_FOUND);
    snprintf(where, sizeof where, "tls://%s:%u?pin=%s", address, (unsigned)port, hub_id);

    config = check_config((const char *[]){"roles", "broker", "hub", where, "listen_devices", "hail://127.0.0.1:0", NULL});
    CHECK_IS(hail_config_set_bytes(config, "identity_pem", hail_buffer_data(broker_pem), hail_buffer_size(broker_pem)), HAIL_OK);
    CHECK_OK(loop, hail_office_new(loop, config, &by_broker, &broker));
    hail_config_free(config);
    CHECK_IS(hail_office_key(broker, key), HAIL_ERR_STATE);
    turn_until(loop, &by_broker, HAIL_EVENT_REGISTERED, 1);
    CHECK_OK(loop, hail_office_key(broker, key));
    CHECK_OK(loop, hail_office_key(hub, same));
    CHECK(memcmp(key, same, 32) == 0);
    CHECK_IS(hail_office_add_user(broker, "anna", NULL), HAIL_ERR_INVALID);

    CHECK_OK(loop, hail_office_add_user(hub, "anna", &ticket));
    turn_durable(loop, &by_hub, ticket);
    CHECK_OK(loop, hail_office_address(broker, 0, &address, &port));
    snprintf(url, sizeof url, "hail://%s:%u", address, (unsigned)port);
    hail_buffer *line = NULL;
    CHECK_IS(hail_office_add_device(hub, "anna", session, 0, NULL, session, &line, &ticket), HAIL_ERR_CONFIG);
    CHECK_OK(loop, hail_office_add_device(hub, "anna", same, 0, url, session, &line, &ticket));
    turn_durable(loop, &by_hub, ticket);
    hail_device *anna = device_on(loop, &by_anna, line, NULL);
    turn_until(loop, &by_anna, HAIL_EVENT_WELCOME, 1);
    put_text(loop, anna, "user:anna", "to myself");
    turn_until(loop, &by_anna, HAIL_EVENT_MESSAGE, 1);
    CHECK(strcmp(by_anna.body, "to myself") == 0);
    CHECK_IS(office_counter(loop, broker, "link.sessions"), 1);
    CHECK_IS(office_counter(loop, broker, "broker.registered"), 1);
    CHECK_IS(office_counter(loop, hub, "link.sessions"), 0);
    CHECK_IS(office_counter(loop, hub, "brokers.registered"), 1);
    CHECK_OK(loop, hail_office_drain(broker, 1));
    hail_device_free(anna);
    hail_office_free(broker);
    hail_office_free(hub);
    hail_loop_free(loop);
    hail_buffer_free(line);
    hail_buffer_free(hub_pem);
    hail_buffer_free(broker_pem);
}

int main(void)
{
    CHECK(mkdtemp(directory) != NULL);
    device_login();
    device_put_and_confirm();
    device_away_and_back();
    device_suspended();
    device_outbox_survives();
    full_outbox();
    full_disk();
    presence_query();
    refused_credential();
    credentials_of_others();
    revoked_device();
    app_sends();
    broadcast();
    draining();
    brokers();
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_IS(system(command), 0);
    return 0;
}
