/* What one gateway recognises the others learn: from a packet to a verdict, over the back end, to a verdict elsewhere. */
#include "two_ends.h"

/* A UDP packet from 192.168.1.2 to port 53 of 203.0.113.9; its checksums are nobody's business. */
static size_t packet(uint8_t *room, uint16_t port, const char *payload, size_t size)
{
    const uint8_t head[28] = {0x45, 0, 0, (uint8_t)(28 + size), 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 1, 2, 203, 0,
                              113, 9, (uint8_t)(port >> 8), (uint8_t)port, 0, 53, 0, (uint8_t)(8 + size), 0, 0};
    memcpy(room, head, sizeof head);
    memcpy(room + sizeof head, payload, size);
    return sizeof head + size;
}

static const char ASKS[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1";
static uint8_t octets[128];

static void feed(hail_loop *loop, hail_gateway *gateway, uint64_t time_us, uint16_t port, const char *payload, size_t size)
{
    size = packet(octets, port, payload, size);
    CHECK_OK(loop, hail_gateway_feed(gateway, HAIL_LINK_RAW, time_us, octets, size));
}

/* Verdicts name the flow as it began. */
static void is_flow(const hail_event *event, const char *how, uint16_t port)
{
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_HOW), how) == 0);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_LOCAL_ADDRESS), "192.168.1.2") == 0);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_REMOTE_ADDRESS), "203.0.113.9") == 0);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_LOCAL_PORT), port);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_REMOTE_PORT), 53);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_PROTOCOL), HAIL_PROTOCOL_UDP);
}

int main(void)
{
    hail_loop *loop = NULL;
    uint16_t port = 0;
    char url[64];
    uint64_t value = 0;
    hail_record record = {.size = sizeof record};
    hail_buffer *json = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *one = gateway_to(loop, url, NULL), *other = gateway_to(loop, url, NULL);
    check_await(loop, other, HAIL_EVENT_SYNCED);

    /* Known while it goes on, by a rule; the back end learns of it. The frames' clock is long past. */
    feed(loop, one, 1000000, 40000, ASKS, sizeof ASKS - 1);
    const hail_event *event = check_await(loop, one, HAIL_EVENT_RECOGNISED);
    is_flow(event, "rule", 40000);
    CHECK(strcmp(hail_event_text(event, HAIL_FIELD_APP_NAME), "dns") == 0);
    CHECK(!hail_event_has(event, HAIL_FIELD_PACKETS));
    uint64_t dns = hail_event_u64(event, HAIL_FIELD_APP);
    CHECK_IS(hail_event_record(event, &record), HAIL_OK);
    CHECK(record.app == dns && record.local_port == 40000 && record.remote_port == 53);
    event = check_await(loop, backend, HAIL_EVENT_IDENTIFIED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), dns);

    /* Elsewhere a flow to that place is known though it says nothing to the rules. */
    event = check_await(loop, other, HAIL_EVENT_RESULT);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), dns);
    CHECK_OK(loop, hail_gateway_list(other, "results", &json));
    CHECK(strstr((const char *)hail_buffer_data(json), "\"remote_address\":\"203.0.113.9\",\"remote_port\":53") != NULL);
    hail_buffer_free(json);
    feed(loop, other, 0, 40001, "?", 1);
    event = check_await(loop, other, HAIL_EVENT_RECOGNISED);
    is_flow(event, "shared", 40001);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), dns);

    /* By the frames' own clock the first flow is silent for long when this one begins, and so ends. */
    feed(loop, one, 1000000 + 200 * 1000000ull, 40002, "?", 1);
    event = check_await(loop, one, HAIL_EVENT_FLOW);
    is_flow(event, "rule", 40000);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_PACKETS), 1);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_OCTETS), 28 + sizeof ASKS - 1);

    /* A rule of the back end is one of the gateway's own; and what is over is told. */
    CHECK_OK(loop, hail_backend_set_rule(backend, "home", 7, (const uint8_t *)"^HELLO\\?", 8, NULL));
    check_await(loop, other, HAIL_EVENT_RULES);
    feed(loop, other, 0, 40003, "HELLO?", 6);
    event = check_await(loop, other, HAIL_EVENT_RECOGNISED);
    is_flow(event, "shared", 40003);
    event = check_await(loop, other, HAIL_EVENT_RECOGNISED);
    is_flow(event, "rule", 40003);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), 7);
    CHECK_OK(loop, hail_gateway_finish(other));
    check_await(loop, other, HAIL_EVENT_FLOW);
    CHECK_OK(loop, hail_gateway_counter(other, "recognize.frames", &value));
    CHECK_IS(value, 2);

    hail_gateway_free(one);
    hail_gateway_free(other);
    hail_backend_free(backend);
    hail_loop_free(loop);
    return 0;
}
