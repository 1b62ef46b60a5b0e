/* A post office that is killed again and again in the middle of things, and devices that die too: nothing that was
 * accepted is lost, nothing that was confirmed is shown again, and order holds. The office lives in a process of its own. */
#include "post.h"

#include <signal.h>
#include <sys/wait.h>

enum { KILLS = 4, EACH = 40, ALL = KILLS * EACH, LINE = 256 };

static char file[64];

/* What the first life of the office hands over. */
typedef struct {
    uint16_t port;
    char anna[LINE], bert[LINE];
} handed;

static void hand_over(char *line, hail_loop *loop, hail_office *office, const told *by, const char *user)
{
    credential who = enrol(loop, office, by, user, 1);
    CHECK(snprintf(line, LINE, "%s", (const char *)hail_buffer_data(who.line)) < LINE);
    hail_buffer_free(who.line);
}

/* The office's process: works until it is killed. */
static pid_t start(handed *all)
{
    int says[2], is_first = all->port == 0;
    CHECK_IS(pipe(says), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hail_loop *loop = NULL;
        static told by;
        memset(&by, 0, sizeof by);
        CHECK_IS(hail_loop_new(&loop), HAIL_OK);
        hail_office *office = office_on(loop, &by, file, &all->port);
        if (is_first) {
            hand_over(all->anna, loop, office, &by, "anna");
            hand_over(all->bert, loop, office, &by, "bert");
        }
        CHECK_IS(write(says[1], all, sizeof *all), sizeof *all);
        for (;;)
            turn(loop);
    }
    close(says[1]);
    CHECK_IS(read(says[0], all, sizeof *all), sizeof *all);
    close(says[0]);
    return child;
}

static void kill_it(pid_t child)
{
    int status = 0;
    CHECK_IS(kill(child, SIGKILL), 0);
    CHECK_IS(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

static hail_loop *loop;
static hail_device *anna, *bert;
static uint64_t numbers[ALL];
static int put, accepted, shown, is_accepted[ALL], is_shown[ALL], is_confirmed[ALL];
/* Of the receiver's life: what it showed last, and what it is slow to confirm. */
static int last = -1, slow;
static uint64_t unconfirmed[ALL];

static void say(int count, int wait)
{
    for (; count > 0; count--, put++) {
        char text[16];
        snprintf(text, sizeof text, "%d", put);
        const uint8_t *body = (const uint8_t *)text;
        if (wait)
            CHECK_OK(loop, hail_device_put_wait(anna, "user:bert", 1, 0, NULL, body, strlen(text), -1, &numbers[put]));
        else
            numbers[put] = put_text(loop, anna, "user:bert", text);
    }
}

static void on_message(const hail_event *event)
{
    size_t size = 0;
    char text[16] = "";
    const uint8_t *body = hail_event_bytes(event, HAIL_FIELD_BODY, &size);
    CHECK(size < sizeof text);
    memcpy(text, body, size);
    int at = atoi(text);
    CHECK(at >= 0 && at < put && !is_confirmed[at]);
    /* In a life each comes once and in order; again only from a life before. */
    CHECK(at > last);
    last = at;
    CHECK(is_shown[at] == (int)hail_event_u64(event, HAIL_FIELD_REDELIVERED) || !is_shown[at]);
    shown += !is_shown[at];
    is_shown[at] = 1;
    unconfirmed[at] = hail_event_u64(event, HAIL_FIELD_SEQUENCE);
    if (at % 3 != slow)
        CHECK_OK(loop, hail_device_confirm(bert, unconfirmed[at]));
}

static void step(void)
{
    const hail_event *event;
    check_wait(loop);
    CHECK_OK(loop, hail_loop_step(loop));
    while ((event = hail_loop_next_event(loop)) != NULL)
        switch (hail_event_kind(event)) {
        case HAIL_EVENT_ACCEPTED:
            for (int at = 0; at < put; at++)
                if (numbers[at] == hail_event_u64(event, HAIL_FIELD_NUMBER)) {
                    /* Told again, if the device died before it was on its disk that we were told. */
                    accepted += !is_accepted[at];
                    is_accepted[at] = 1;
                }
            break;
        case HAIL_EVENT_MESSAGE:
            on_message(event);
            break;
        case HAIL_EVENT_CONFIRMED:
            for (int at = 0; at < put; at++)
                if (unconfirmed[at] == hail_event_u64(event, HAIL_FIELD_SEQUENCE))
                    is_confirmed[at] = 1;
            break;
        case HAIL_EVENT_REJECTED:
        case HAIL_EVENT_EXPIRED:
        case HAIL_EVENT_REFUSED:
            fprintf(stderr, "told %s\n", hail_event_name(hail_event_kind(event)));
            exit(1);
        default:
            break;
        }
}

static void until(const int *count, int wanted)
{
    for (long long end = check_ms() + 120000; *count < wanted; step())
        if (check_ms() >= end) {
            fprintf(stderr, "put %d, accepted %d, shown %d\n", put, accepted, shown);
            exit(1);
        }
}

static hail_device *device_of(const char *line, const char *store)
{
    hail_device *device = NULL;
    hail_config *config = check_config((const char *[]){"credential", line, "store", store, "keepalive_s", "10", NULL});
    CHECK_OK(loop, hail_device_new(loop, config, NULL, &device));
    hail_config_free(config);
    return device;
}

static void office_restart(const char *annas, const char *berts)
{
    static handed all;
    pid_t child = start(&all);
    uint16_t port = all.port;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    anna = device_of(all.anna, annas);
    bert = device_of(all.bert, berts);
    for (int round = 0; round < KILLS; round++) {
        slow = round % 3;
        say(EACH / 2, 0);
        until(&accepted, round * EACH + EACH / 4);
        kill_it(child);
        /* Nobody is there: kept here, over the end of the device too, which does not even turn its loop. */
        say(EACH / 2, 1);
        hail_device_free(anna);
        anna = device_of(all.anna, annas);
        child = start(&all);
        CHECK_IS(all.port, port);
        if (round % 2 == 1) {
            hail_device_free(bert);
            last = -1;
            bert = device_of(all.bert, berts);
        }
        CHECK_OK(loop, hail_loop_network_changed(loop));
        until(&accepted, (round + 1) * EACH);
        until(&shown, (round + 1) * EACH);
    }

    /* The last life of the receiver is shown what none confirmed, and nothing else. */
    hail_device_free(bert);
    last = -1;
    slow = 3;
    int left = 0, before[ALL];
    memcpy(before, is_confirmed, sizeof before);
    for (int at = 0; at < ALL; at++)
        left += !is_confirmed[at];
    CHECK(left > 0 && left < ALL);
    kill_it(child);
    child = start(&all);
    bert = device_of(all.bert, berts);
    for (int done = 0; done < ALL;) {
        step();
        done = 0;
        for (int at = 0; at < ALL; at++)
            done += is_confirmed[at];
    }
    CHECK(device_counter(loop, bert, "shown") >= (uint64_t)left);
    hail_device_free(anna);
    hail_device_free(bert);
    hail_loop_free(loop);
    kill_it(child);

    /* Its file is free again. Who confirmed is told nothing anew, and says again what the office had not heard; then nothing
     * waits, not even for a device that remembers nothing. */
    told by_office = {0}, by_bert = {0};
    char line[LINE];
    const char *query = strstr(all.bert, "?key=");
    port = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_office *office = office_on(loop, &by_office, file, &port);
    CHECK(query != NULL);
    snprintf(line, sizeof line, "hail://127.0.0.1:%u%s", (unsigned)port, query);
    for (int is_new = 0; is_new < 2; is_new++) {
        hail_config *config = check_config((const char *[]){"credential", line, "store", is_new ? "" : berts, NULL});
        CHECK_OK(loop, hail_device_new(loop, config, &by_bert, &bert));
        hail_config_free(config);
        turn_until(loop, &by_bert, HAIL_EVENT_WELCOME, 1 + (uint64_t)is_new);
        CHECK(by_bert.waiting == 0 || !is_new);
        for (long long end = check_ms() + 60000; office_counter(loop, office, "hub.confirmed") < by_bert.waiting; turn(loop))
            CHECK(check_ms() < end);
        CHECK(by_bert.missed == 0 && by_bert.count[HAIL_EVENT_MESSAGE] == 0);
        hail_device_free(bert);
    }
    hail_office_free(office);
    hail_loop_free(loop);
}

int main(void)
{
    char directory[] = "/tmp/hailpost-XXXXXX", command[128], annas[64], berts[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(file, sizeof file, "%s/office.db", directory);
    snprintf(annas, sizeof annas, "%s/anna.db", directory);
    snprintf(berts, sizeof berts, "%s/bert.db", directory);
    office_restart(annas, berts);
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_IS(system(command), 0);
    return 0;
}
