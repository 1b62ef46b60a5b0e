/* A back end and two gateways in one process, over each transport: register, beat, a result that travels, rules,
 * deregistration; and a back end that comes back on its file. */
#include "two_ends.h"

#include <unistd.h>

static const char PATTERN[] = "^SSH-2\\.0-";

static void beat(hail_loop *loop, hail_gateway *gateway)
{
    uint64_t before = 0, now = 0;
    long long end = check_ms() + 60000;
    CHECK_OK(loop, hail_gateway_set_heartbeat_ms(gateway, 50));
    CHECK_OK(loop, hail_gateway_counter(gateway, "heartbeats", &before));
    do {
        check_wait(loop);
        CHECK_OK(loop, hail_loop_step(loop));
        while (hail_loop_next_event(loop) != NULL)
            ;
        CHECK_OK(loop, hail_gateway_counter(gateway, "heartbeats", &now));
        CHECK(check_ms() < end);
    } while (now < before + 2);
    CHECK_IS(hail_gateway_state(gateway), HAIL_GATEWAY_ACTIVE);
}

/* No line of the log names a peer, a key or an end of a flow. */
static int lines;
static char forbidden[8][80] = {"127.0.0.1", "203.0.113.9", "192.168.1.2", "SSH-2"};

static void look(void *user, int32_t level, const char *text)
{
    CHECK(user == &lines && level <= HAIL_LOG_DEBUG);
    lines++;
    for (size_t at = 0; at < sizeof forbidden / sizeof *forbidden; at++)
        if (forbidden[at][0] != 0 && strstr(text, forbidden[at]) != NULL) {
            fprintf(stderr, "the log says %s\n", text);
            exit(1);
        }
}

static void over(const char *scheme)
{
    hail_loop *loop = NULL;
    int tls = strcmp(scheme, "tls") == 0, hail = strcmp(scheme, "hail") == 0;
    identity server = {0}, one = {0}, two = {0};
    char listen[64], url[256];
    uint16_t port = 0;
    uint64_t ticket = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    CHECK_OK(loop, hail_loop_set_log(loop, HAIL_LOG_DEBUG, look, &lines));
    if (tls) {
        server = identity_new("backend");
        one = identity_new("one");
        two = identity_new("two");
        snprintf(forbidden[4], sizeof forbidden[4], "%s", server.hex);
        snprintf(forbidden[5], sizeof forbidden[5], "%.16s", one.hex);
        snprintf(forbidden[6], sizeof forbidden[6], "%.16s", two.hex);
        snprintf(forbidden[7], sizeof forbidden[7], "PRIVATE");
    }
    snprintf(listen, sizeof listen, "%s://127.0.0.1:0", scheme);
    hail_backend *backend = backend_on(loop, listen, tls ? &server : NULL, NULL, &port);
    if (tls) {
        CHECK_OK(loop, hail_backend_enrol(backend, one.id, "one", "home", 0, NULL));
        CHECK_OK(loop, hail_backend_enrol(backend, two.id, "two", "home", HAIL_ENROL_TRUSTED, &ticket));
        const hail_event *durable = check_await(loop, backend, HAIL_EVENT_DURABLE);
        CHECK(hail_event_u64(durable, HAIL_FIELD_TICKET) <= ticket);
        snprintf(url, sizeof url, "tls://127.0.0.1:%u?pin=%s", (unsigned)port, server.hex);
    } else if (hail) {
        one = identity_linked(loop, backend, "one", 0, NULL);
        two = identity_linked(loop, backend, "two", HAIL_ENROL_TRUSTED, &ticket);
        const hail_event *durable = check_await(loop, backend, HAIL_EVENT_DURABLE);
        CHECK(hail_event_u64(durable, HAIL_FIELD_TICKET) <= ticket);
        snprintf(forbidden[5], sizeof forbidden[5], "%.16s", one.hex);
        snprintf(forbidden[6], sizeof forbidden[6], "%.16s", two.hex);
        /* The last words of the line are the credential. */
        snprintf(forbidden[7], sizeof forbidden[7], "%.*s", 64,
                 (const char *)hail_buffer_data(two.line) + hail_buffer_size(two.line) - 64);
        url[0] = 0;
    } else {
        snprintf(url, sizeof url, "%s://127.0.0.1:%u", scheme, (unsigned)port);
    }
    int proves = tls || hail;

    hail_gateway *first = gateway_to(loop, url, proves ? &one : NULL);
    const hail_event *event = check_await(loop, backend, HAIL_EVENT_GATEWAY_REGISTERED);
    uint64_t registration = hail_event_u64(event, HAIL_FIELD_GATEWAY);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_GROUP), "home") == 0);
    if (proves) {
        size_t size = 0;
        const uint8_t *key = hail_event_bytes(event, HAIL_FIELD_KEY, &size);
        CHECK(size == 32 && memcmp(key, one.id, 32) == 0);
        CHECK(strcmp(hail_event_text(event, HAIL_FIELD_NAME), "one") == 0);
    }
    check_await(loop, first, HAIL_EVENT_SYNCED);
    hail_gateway *second = gateway_to(loop, url, proves ? &two : NULL);
    check_await(loop, second, HAIL_EVENT_SYNCED);
    CHECK_IS(hail_gateway_state(second), HAIL_GATEWAY_ACTIVE);

    uint64_t registered[4] = {0};
    size_t count = 0;
    CHECK_OK(loop, hail_backend_gateways(backend, NULL, 0, &count));
    CHECK_IS(count, 2);
    CHECK_OK(loop, hail_backend_gateways(backend, registered, 4, &count));
    CHECK(registered[0] == registration || registered[1] == registration);
    beat(loop, first);

    /* A result travels; the end inside stays at home. */
    hail_record record = check_record(7), told;
    CHECK_OK(loop, hail_gateway_report(second, &record));
    event = check_await(loop, first, HAIL_EVENT_RESULT);
    memset(&told, 0xff, sizeof told);
    told.size = sizeof told;
    CHECK_IS(hail_event_record(event, &told), HAIL_OK);
    CHECK(told.app == 7 && told.remote_port == 443 && told.protocol == HAIL_PROTOCOL_TCP && told.local_port == 0);
    CHECK(memcmp(told.remote_address, record.remote_address, 16) == 0);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_REMOTE_ADDRESS), "203.0.113.9") == 0);
    uint32_t app = 0;
    CHECK_OK(loop, hail_gateway_result(first, record.remote_address, 443, HAIL_PROTOCOL_TCP, &app));
    CHECK_IS(app, 7);
    check_acknowledged(loop, second);

    hail_record ipv6 = check_record(8);
    ipv6.protocol = HAIL_PROTOCOL_UDP;
    CHECK_IS(hail_address_parse("fd00::2", ipv6.local_address), HAIL_OK);
    CHECK_IS(hail_address_parse("2001:db8::9", ipv6.remote_address), HAIL_OK);
    CHECK_OK(loop, hail_gateway_report(second, &ipv6));
    do
        event = check_await(loop, first, HAIL_EVENT_RESULT);
    while (hail_event_u64(event, HAIL_FIELD_APP) != 8);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_REMOTE_ADDRESS), "2001:db8::9") == 0);
    check_acknowledged(loop, second);

    /* Rules: for the group, for all, one that cannot be used, and away again. */
    const uint8_t *pattern = (const uint8_t *)PATTERN;
    CHECK_OK(loop, hail_backend_set_rule(backend, "home", 22, pattern, sizeof PATTERN - 1, &ticket));
    event = check_await(loop, first, HAIL_EVENT_RULES);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_COUNT), 1);
    CHECK_OK(loop, hail_backend_set_rule(backend, NULL, 23, (const uint8_t *)"(", 1, NULL));
    event = check_await(loop, first, HAIL_EVENT_RULE_REJECTED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), 23);
    CHECK_OK(loop, hail_backend_remove_rule(backend, NULL, 23, NULL, 0, NULL));
    CHECK_IS(hail_backend_remove_rule(backend, NULL, 23, NULL, 0, NULL), HAIL_ERR_NOT_FOUND);
    do
        event = check_await(loop, first, HAIL_EVENT_RULES);
    while (hail_event_u64(event, HAIL_FIELD_COUNT) != 1);

    /* Features reach the back end, whole and in order. */
    const uint32_t words[] = {1, 0x42280000, 0xffffffff};
    const uint8_t octets[] = {0, 0, 0, 1, 0x42, 0x28, 0, 0, 0xff, 0xff, 0xff, 0xff};
    CHECK_OK(loop, hail_gateway_report_features(first, 7, words, 3));
    event = check_await(loop, backend, HAIL_EVENT_FEATURES);
    const uint8_t *bytes = hail_event_bytes(event, HAIL_FIELD_WORDS, &count);
    CHECK(count == sizeof octets && memcmp(bytes, octets, sizeof octets) == 0);

    /* Taken off by the operator; and leaving by itself, then back. */
    if (proves) {
        CHECK_OK(loop, hail_backend_deregister(backend, one.id, NULL));
        event = check_await(loop, first, HAIL_EVENT_DEREGISTERED);
        CHECK_IS(hail_event_u64(event, HAIL_FIELD_BY_BACKEND), 1);
        CHECK_OK(loop, hail_backend_allow(backend, one.id, NULL));
        CHECK_OK(loop, hail_gateway_join(first));
    } else {
        CHECK_OK(loop, hail_backend_disconnect(backend, registration));
        check_await(loop, first, HAIL_EVENT_DEREGISTERED);
        CHECK_IS(hail_backend_disconnect(backend, 4711), HAIL_ERR_NOT_FOUND);
        CHECK_OK(loop, hail_gateway_join(first));
    }
    check_await(loop, first, HAIL_EVENT_SYNCED);
    CHECK_OK(loop, hail_gateway_leave(first));
    event = check_await(loop, first, HAIL_EVENT_DEREGISTERED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_BY_BACKEND), 0);

    uint64_t value = 0;
    CHECK_OK(loop, hail_backend_counter(backend, "registrations", &value));
    CHECK_IS(value, 3);
    hail_gateway_free(second);
    hail_backend_free(backend);
    hail_loop_free(loop);
    hail_gateway_free(first);
    hail_buffer_free(server.pem);
    hail_buffer_free(one.pem);
    hail_buffer_free(two.pem);
    hail_buffer_free(one.line);
    hail_buffer_free(two.line);
}

/* What was acknowledged is there after the back end was made anew on its file, and gateways come back by themselves. */
static void restart(void)
{
    char directory[] = "/tmp/hailpost-XXXXXX", file[64], listen[64], url[64];
    CHECK(mkdtemp(directory) != NULL);
    snprintf(file, sizeof file, "%s/backend.db", directory);
    hail_loop *loop = NULL, *other = NULL;
    uint16_t port = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, file, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *gateway = gateway_to(loop, url, NULL);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    hail_record record = check_record(9);
    CHECK_OK(loop, hail_gateway_report(gateway, &record));
    check_await(loop, gateway, HAIL_EVENT_ACKNOWLEDGED);

    hail_backend_free(backend);
    check_await(loop, gateway, HAIL_EVENT_DOWN);
    backend = backend_on(loop, listen, NULL, file, &port);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);

    /* A gateway that was not there before learns it too; it lives on another loop. */
    CHECK_IS(hail_loop_new(&other), HAIL_OK);
    hail_gateway *late = gateway_to(other, url, NULL);
    long long end = check_ms() + 60000;
    for (int told = 0; !told;) {
        CHECK(check_ms() < end);
        CHECK(hail_loop_run(loop, 5) != HAIL_ERR_PANIC);
        while (hail_loop_next_event(loop) != NULL)
            ;
        hail_status status = hail_loop_run(other, 5);
        CHECK(status == HAIL_OK || status == HAIL_ERR_TIMEOUT);
        const hail_event *event;
        while ((event = hail_loop_next_event(other)) != NULL)
            if (hail_event_kind(event) == HAIL_EVENT_RESULT)
                told = hail_event_u64(event, HAIL_FIELD_APP) == 9;
    }
    hail_gateway_free(late);
    hail_loop_free(other);
    hail_gateway_free(gateway);
    hail_backend_free(backend);
    hail_loop_free(loop);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_IS(system(command), 0);
}

/* At the bound reports are refused, and an event says when there is room again. */
static void full(void)
{
    hail_loop *loop = NULL;
    hail_gateway *gateway = NULL;
    uint16_t port = 0;
    uint64_t refused = 0;
    char url[64];
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_config *config = check_config((const char *[]){"backend", url, "max_reports", "2", NULL});
    CHECK_OK(loop, hail_gateway_new(loop, config, NULL, &gateway));
    hail_config_free(config);
    hail_record record = check_record(1);
    for (uint32_t at = 1; at <= 3; at++) {
        record.app = at;
        record.remote_port = (uint16_t)at;
        CHECK_IS(hail_gateway_report(gateway, &record), at < 3 ? HAIL_OK : HAIL_ERR_FULL);
    }
    CHECK_OK(loop, hail_gateway_counter(gateway, "reports_refused", &refused));
    CHECK_IS(refused, 1);
    check_await(loop, gateway, HAIL_EVENT_WRITABLE);
    CHECK_OK(loop, hail_gateway_report(gateway, &record));
    check_acknowledged(loop, gateway);
    hail_gateway_free(gateway);
    hail_backend_free(backend);
    hail_loop_free(loop);
}

int main(void)
{
    full();
    over("tcp");
    over("udp");
    over("tls");
    over("hail");
    CHECK(lines > 60);
    restart();
    return 0;
}
