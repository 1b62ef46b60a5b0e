/* What the operator of a back end decides: who may come, who is barred and let in again, and models taken back. */
#include "two_ends.h"

static const char *const BARRED = "\"barred\":true", *const FREE = "\"barred\":false";

static hail_loop *loop;
static hail_backend *backend;

/* The list holds this text, or does not. */
static void listed(const char *what, const char *group, const char *text, int wanted)
{
    hail_buffer *json = NULL;
    CHECK_OK(loop, hail_backend_list(backend, what, group, &json));
    const char *rows = (const char *)hail_buffer_data(json);
    CHECK(rows[0] == '[' && rows[hail_buffer_size(json) - 1] == ']');
    CHECK_IS(strstr(rows, text) != NULL, wanted);
    hail_buffer_free(json);
}

static void refused(hail_gateway *gateway, uint64_t reason)
{
    CHECK_OK(loop, hail_gateway_join(gateway));
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_REFUSED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_REASON), reason);
    CHECK(hail_event_text(event, HAIL_FIELD_TEXT)[0] != 0);
}

/* Barred, it stays out also when it is enrolled anew; allowed, it comes back; revoked, it is nobody. */
static void barring(const char *url, const identity *who)
{
    CHECK_OK(loop, hail_backend_enrol(backend, who->id, "one", "home", 0, NULL));
    hail_gateway *gateway = gateway_to(loop, url, who);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    listed("gateways", NULL, "\"name\":\"one\",\"group\":\"home\"", 1);
    listed("enrolments", NULL, FREE, 1);

    CHECK_OK(loop, hail_backend_deregister(backend, who->id, NULL));
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_DEREGISTERED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_BY_BACKEND), 1);
    listed("enrolments", NULL, BARRED, 1);
    refused(gateway, 8);
    CHECK_OK(loop, hail_backend_enrol(backend, who->id, "again", "home", 0, NULL));
    refused(gateway, 8);

    CHECK_OK(loop, hail_backend_allow(backend, who->id, NULL));
    CHECK_OK(loop, hail_gateway_join(gateway));
    check_await(loop, gateway, HAIL_EVENT_REGISTERED);
    listed("gateways", NULL, "\"name\":\"again\"", 1);

    CHECK_OK(loop, hail_backend_revoke(backend, who->id, NULL));
    check_await(loop, backend, HAIL_EVENT_GATEWAY_DEREGISTERED);
    listed("enrolments", NULL, who->hex, 0);
    CHECK_IS(hail_backend_allow(backend, who->id, NULL), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_revoke(backend, who->id, NULL), HAIL_ERR_NOT_FOUND);
    hail_gateway_free(gateway);
}

/* A key that nobody enrolled; and a back end that has another key than the one that was pinned. */
static void strangers(const char *url, uint16_t port)
{
    identity stranger = identity_new("stranger");
    size_t size = 0;
    hail_gateway *gateway = gateway_to(loop, url, &stranger);
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_REFUSED);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_REASON), 1);
    hail_gateway_free(gateway);

    gateway = gateway_to(loop, url, &stranger);
    event = check_await(loop, backend, HAIL_EVENT_GATEWAY_REFUSED);
    const uint8_t *key = hail_event_bytes(event, HAIL_FIELD_KEY, &size);
    CHECK(size == 32 && memcmp(key, stranger.id, 32) == 0);
    hail_gateway_free(gateway);
    listed("gateways", NULL, "[]", 1);

    char wrong[256];
    snprintf(wrong, sizeof wrong, "tls://127.0.0.1:%u?pin=%s", (unsigned)port, stranger.hex);
    gateway = gateway_to(loop, wrong, &stranger);
    event = check_await(loop, gateway, HAIL_EVENT_DOWN);
    CHECK_IS(hail_status_retry((hail_status)hail_event_u64(event, HAIL_FIELD_STATUS)), HAIL_RETRY_AFTER_CONFIG);
    hail_gateway_free(gateway);
    hail_buffer_free(stranger.pem);
}

/* A model that looks at one feature and says nothing by it; `bias` is its last word. */
static void install(uint32_t bias)
{
    const uint32_t one = 0x3f800000, half = 0x3f000000, five = 0x40a00000;
    const uint32_t words[13] = {HAIL_FEATURE_SET << 16 | 0x1001, one, one, 0, 0, half, five, 0, one, 0, 0, 0, bias};
    CHECK_OK(loop, hail_backend_set_parameters(backend, "home", 7, words, 13, NULL));
}

static uint32_t told(hail_gateway *gateway)
{
    size_t size = 0;
    const hail_event *event = check_await(loop, gateway, HAIL_EVENT_PARAMETERS);
    CHECK_IS(hail_event_u64(event, HAIL_FIELD_APP), 7);
    const uint8_t *octets = hail_event_bytes(event, HAIL_FIELD_WORDS, &size);
    CHECK_IS(size, 13 * 4);
    const uint8_t *last = octets + 12 * 4;
    return (uint32_t)last[0] << 24 | (uint32_t)last[1] << 16 | (uint32_t)last[2] << 8 | last[3];
}

/* What was put in use can be taken back, is told to the gateways, and is not trained again until that is allowed. */
static void models(const char *url, const identity *who)
{
    const uint32_t first = 0xbf800000, second = 0xc0000000;
    uint64_t ticket = 0;
    uint32_t words[256];
    size_t count = 0;
    hail_buffer *json = NULL;
    CHECK_OK(loop, hail_backend_enrol(backend, who->id, "two", "home", 0, NULL));
    hail_gateway *gateway = gateway_to(loop, url, who);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    CHECK_IS(hail_backend_parameters(backend, "home", 7, NULL, 0, &count), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_hold(backend, "home", 7, 1, &ticket), HAIL_ERR_NOT_FOUND);
    install(first);
    CHECK_IS(told(gateway), first);
    CHECK_IS(hail_backend_roll_back(backend, "home", 7, &ticket), HAIL_ERR_NOT_FOUND);
    CHECK_IS(ticket, 0);
    install(second);
    CHECK_IS(told(gateway), second);
    listed("models", "home", "\"app\":7,\"origin\":\"installed\",\"revision\":2,\"held\":false", 1);

    CHECK_OK(loop, hail_backend_roll_back(backend, "home", 7, &ticket));
    CHECK(ticket > 0);
    CHECK_IS(told(gateway), first);
    listed("models", "home", "\"held\":true", 1);
    CHECK_OK(loop, hail_backend_hold(backend, "home", 7, 0, &ticket));
    while (hail_event_u64(check_await(loop, backend, HAIL_EVENT_DURABLE), HAIL_FIELD_TICKET) < ticket)
        ;
    listed("models", "home", "\"held\":false", 1);
    CHECK_OK(loop, hail_backend_parameters(backend, "home", 7, words, 1, &count));
    CHECK_IS(count, 13);
    CHECK_OK(loop, hail_backend_parameters(backend, "home", 7, words, 256, &count));
    CHECK(count == 13 && words[12] == first);

    /* A trainer elsewhere has nothing to learn from yet, and nothing to be judged by. */
    CHECK_OK(loop, hail_backend_samples(backend, "home", 7, &json));
    CHECK(strcmp((const char *)hail_buffer_data(json), "[]") == 0);
    hail_buffer_free(json);
    CHECK_IS(hail_backend_offer(backend, "home", 7, words, count), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_offer(backend, "home", 7, words, 3), HAIL_ERR_WORDS);
    hail_gateway_free(gateway);
}

int main(void)
{
    char url[256];
    uint16_t port = 0;
    hail_buffer *json = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    identity server = identity_new("backend"), one = identity_new("one"), two = identity_new("two");
    backend = backend_on(loop, "tls://127.0.0.1:0", &server, NULL, &port);
    snprintf(url, sizeof url, "tls://127.0.0.1:%u?pin=%s", (unsigned)port, server.hex);
    strangers(url, port);
    barring(url, &one);
    models(url, &two);
    CHECK_IS(hail_backend_list(backend, "results", NULL, &json), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(backend, "gateways", "home", &json), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(backend, "neighbours", NULL, &json), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_list(backend, NULL, NULL, &json), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(NULL, "groups", NULL, &json), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(backend, "groups", NULL, NULL), HAIL_ERR_INVALID);
    CHECK(json == NULL);
    hail_backend_free(backend);
    hail_loop_free(loop);
    hail_buffer_free(server.pem);
    hail_buffer_free(one.pem);
    hail_buffer_free(two.pem);
    return 0;
}
