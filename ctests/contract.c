/* The contract at the top of the header, sentence by sentence, where it is not misuse. */
#include "check.h"

#include <pthread.h>
#include <unistd.h>

_Static_assert(sizeof(hail_record) == 48, "the size of a record is part of the ABI");
_Static_assert(offsetof(hail_record, app) == 4, "layout");
_Static_assert(offsetof(hail_record, local_address) == 8, "layout");
_Static_assert(offsetof(hail_record, remote_address) == 24, "layout");
_Static_assert(offsetof(hail_record, local_port) == 40, "layout");
_Static_assert(offsetof(hail_record, remote_port) == 42, "layout");
_Static_assert(offsetof(hail_record, protocol) == 44, "layout");
_Static_assert(sizeof(hail_status) == 4 && (hail_status)-1 < 0, "a status is an int32_t");

static void texts(void)
{
    CHECK(strcmp(hail_version(), "0.1.0") == 0);
    CHECK(strcmp(hail_status_text(HAIL_OK), "done") == 0);
    CHECK(strstr(hail_status_text(HAIL_ERR_FULL), "bound") != NULL);
    CHECK(strcmp(hail_status_text(12345), "unknown status") == 0);
    CHECK_IS(hail_status_retry(HAIL_ERR_TIMEOUT), HAIL_RETRY_LATER);
    CHECK_IS(hail_status_retry(HAIL_ERR_INVALID), HAIL_RETRY_NEVER);
    CHECK_IS(hail_status_retry(HAIL_ERR_CONFIG), HAIL_RETRY_AFTER_CONFIG);
    CHECK_IS(hail_status_retry(7), HAIL_ERR_INVALID);
    CHECK(strcmp(hail_event_name(HAIL_EVENT_RULES), "rules") == 0);
    CHECK(strcmp(hail_event_name(4711), "") == 0);
}

static void options(void)
{
    hail_config *config = NULL;
    hail_buffer *toml = NULL;
    CHECK_IS(hail_config_new(&config), HAIL_OK);
    CHECK(strcmp(hail_config_detail(config), "") == 0);
    CHECK_IS(hail_config_set(config, "hartbeat_ms", "5"), HAIL_ERR_CONFIG);
    CHECK(strstr(hail_config_detail(config), "did you mean heartbeat_ms") != NULL);
    CHECK_IS(hail_config_set(config, "heartbeat_ms", "soon"), HAIL_ERR_CONFIG);
    CHECK_IS(hail_config_set(config, "heartbeat_ms", "2500"), HAIL_OK);
    CHECK_IS(hail_config_set_bytes(config, "identity_pem", (const uint8_t *)"hunter2", 7), HAIL_OK);
    CHECK_IS(hail_config_dump(config, HAIL_ROLE_GATEWAY, &toml), HAIL_OK);
    const char *text = (const char *)hail_buffer_data(toml);
    CHECK_IS(strlen(text), hail_buffer_size(toml));
    CHECK(strstr(text, "heartbeat_ms = 2500\n") != NULL);
    CHECK(strstr(text, "hunter2") == NULL);
    CHECK(strstr(text, "listen") == NULL);
    hail_buffer_free(toml);

    /* What was dumped can be loaded, and a file with an error changes nothing. */
    char path[] = "/tmp/hailpost-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK(dprintf(file, "[gateway]\nheartbeat_ms = 1234\nfamily = 4\n") > 0);
    CHECK_IS(hail_config_load(config, HAIL_ROLE_GATEWAY, path), HAIL_OK);
    CHECK(dprintf(file, "sends = 5\nlisten = 'tcp://0.0.0.0'\n") > 0);
    CHECK_IS(hail_config_load(config, HAIL_ROLE_GATEWAY, path), HAIL_ERR_CONFIG);
    CHECK(strstr(hail_config_detail(config), "line 5") != NULL);
    close(file);
    unlink(path);
    CHECK_IS(hail_config_dump(config, HAIL_ROLE_GATEWAY, &toml), HAIL_OK);
    text = (const char *)hail_buffer_data(toml);
    CHECK(strstr(text, "heartbeat_ms = 1234\n") != NULL && strstr(text, "sends = 3\n") != NULL);
    hail_buffer_free(toml);
    hail_config_free(config);
}

static void *wake(void *loop)
{
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    CHECK_IS(hail_loop_wake(loop), HAIL_OK);
    return NULL;
}

/* An idle loop waits without end, and another thread ends the wait: both kinds of it. */
static void waking(void)
{
    hail_loop *loop = NULL;
    pthread_t thread;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    CHECK_IS(hail_loop_timeout_ms(loop), -1);
    CHECK(hail_loop_fd(loop) >= 0);
    CHECK_IS(hail_loop_run(loop, 0), HAIL_ERR_TIMEOUT);
    CHECK_IS(hail_loop_run(loop, 10), HAIL_ERR_TIMEOUT);

    CHECK_IS(pthread_create(&thread, NULL, wake, loop), 0);
    CHECK_IS(hail_loop_run(loop, -1), HAIL_OK);
    CHECK_IS(pthread_join(thread, NULL), 0);

    CHECK_IS(pthread_create(&thread, NULL, wake, loop), 0);
    struct pollfd descriptor = {hail_loop_fd(loop), POLLIN, 0};
    CHECK_IS(poll(&descriptor, 1, 60000), 1);
    CHECK_IS(pthread_join(thread, NULL), 0);
    CHECK_IS(hail_loop_step(loop), HAIL_OK);
    CHECK_IS(poll(&descriptor, 1, 0), 0);

    /* A wake before the wait ends the next one. */
    CHECK_IS(hail_loop_wake(loop), HAIL_OK);
    CHECK_IS(hail_loop_run(loop, -1), HAIL_OK);
    CHECK(hail_loop_next_event(loop) == NULL);
    hail_loop_free(loop);
}

/* A back end that nobody can reach: the failure comes as an event, with status and text. */
static void failures_are_events(void)
{
    hail_loop *loop = NULL;
    hail_gateway *gateway = NULL;
    int user = 7;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);

    hail_config *empty = check_config((const char *[]){NULL});
    CHECK_IS(hail_gateway_new(loop, empty, NULL, &gateway), HAIL_ERR_CONFIG);
    CHECK(gateway == NULL);
    CHECK(strstr(hail_loop_detail(loop), "backend") != NULL);
    hail_config_free(empty);

    hail_config *config =
        check_config((const char *[]){"backend", "tcp://127.0.0.1:1", "rules", "none", "backoff_ms", "10", NULL});
    CHECK_OK(loop, hail_gateway_new(loop, config, &user, &gateway));
    hail_config_free(config);
    CHECK_IS(hail_gateway_state(gateway), HAIL_GATEWAY_DOWN);
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_DOWN);
    CHECK(hail_event_user(event) == &user);
    CHECK_IS((hail_status)hail_event_u64(event, HAIL_FIELD_STATUS), HAIL_ERR_CONNECT);
    CHECK(strlen(hail_event_text(event, HAIL_FIELD_TEXT)) > 0);
    CHECK(hail_event_has(event, HAIL_FIELD_STATUS) && !hail_event_has(event, HAIL_FIELD_APP));
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), 0);
    CHECK(hail_event_text(event, HAIL_FIELD_STATUS) == NULL);
    size_t size = 99;
    CHECK(hail_event_bytes(event, HAIL_FIELD_TEXT, &size) == NULL && size == 99);
    CHECK(hail_event_text(event, 4711) == NULL);

    hail_record record = {.size = sizeof record};
    CHECK_IS(hail_event_record(event, &record), HAIL_ERR_NOT_FOUND);

    /* It goes on trying, and the pause can be ended. */
    check_await(loop, gateway, HAIL_EVENT_DOWN);
    CHECK_IS(hail_loop_network_changed(loop), HAIL_OK);
    check_await(loop, gateway, HAIL_EVENT_DOWN);

    /* The event that is looked at outlives its object, and no longer names it. */
    event = check_await(loop, gateway, HAIL_EVENT_DOWN);
    hail_gateway_free(gateway);
    CHECK(hail_event_source(event) == NULL);
    CHECK_IS(hail_event_kind(event), HAIL_EVENT_DOWN);
    CHECK(hail_loop_next_event(loop) == NULL);
    CHECK_IS(hail_loop_timeout_ms(loop), -1);
    hail_loop_free(loop);
}

static void addresses(void)
{
    uint8_t octets[16];
    const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    CHECK_IS(hail_address_parse("192.0.2.1", octets), HAIL_OK);
    CHECK(memcmp(octets, mapped, 16) == 0);
    CHECK_IS(hail_address_parse("2001:db8::1", octets), HAIL_OK);
    CHECK(octets[0] == 0x20 && octets[15] == 1);
    CHECK_IS(hail_address_parse("localhost", octets), HAIL_ERR_INVALID);
    CHECK(octets[0] == 0x20);
}

/* The fields of a record come back as they were; without a link they wait, up to the bound. */
static void reports_wait(void)
{
    hail_loop *loop = NULL;
    hail_gateway *gateway = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_config *config = check_config(
        (const char *[]){"backend", "udp://127.0.0.1:1", "rules", "none", "max_reports", "2", "family", "4", NULL});
    CHECK_OK(loop, hail_gateway_new(loop, config, NULL, &gateway));
    hail_config_free(config);

    hail_record record = check_record(7);
    size_t pending = 99;
    CHECK_OK(loop, hail_gateway_report(gateway, &record));
    record.remote_port = 444;
    CHECK_OK(loop, hail_gateway_report(gateway, &record));
    record.remote_port = 445;
    CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_FULL);
    CHECK_OK(loop, hail_gateway_pending(gateway, &pending));
    CHECK_IS(pending, 2);
    CHECK_IS(hail_address_parse("2001:db8::1", record.remote_address), HAIL_OK);
    CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_UNSUPPORTED);

    uint32_t app = 99;
    uint64_t value = 99;
    CHECK_IS(hail_gateway_result(gateway, record.remote_address, 443, HAIL_PROTOCOL_TCP, &app), HAIL_ERR_NOT_FOUND);
    CHECK_IS(app, 99);
    CHECK_OK(loop, hail_gateway_counter(gateway, "unreportable", &value));
    CHECK_IS(value, 1);
    CHECK_IS(hail_gateway_feed(gateway, HAIL_LINK_ETHERNET, 0, (const uint8_t *)"", 0), HAIL_ERR_STATE);
    hail_gateway_free(gateway);
    hail_loop_free(loop);
}

/* A name that nobody has is said, by an event; nothing blocks meanwhile. */
static void no_such_name(void)
{
    hail_loop *loop = NULL;
    hail_gateway *gateway = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_config *config = check_config((const char *[]){"backend", "tcp://nowhere.invalid:7700", "rules", "none", NULL});
    CHECK_OK(loop, hail_gateway_new(loop, config, NULL, &gateway));
    hail_config_free(config);
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_DOWN);
    hail_status status = (hail_status)hail_event_u64(event, HAIL_FIELD_STATUS);
    CHECK(status == HAIL_ERR_RESOLVE || status == HAIL_ERR_TIMEOUT);
    hail_gateway_free(gateway);
    hail_loop_free(loop);
}

int main(void)
{
    texts();
    no_such_name();
    options();
    waking();
    failures_are_events();
    addresses();
    reports_wait();
    return 0;
}
