/* A post office and devices of its users, on one loop or on several. */
#ifndef POST_H
#define POST_H

#include "check.h"

#include <unistd.h>

/* What an object told, by what was given as its `user`: events by kind, and what the last ones said. */
typedef struct {
    uint64_t count[128];
    uint64_t ticket, status, first_down, number, sequence, redelivered, missed, waiting, request, code, online, resumed, told;
    char body[256], sender[80], state[16], user[80], id[HAIL_ID_SIZE];
} told;

/* Who a device is. */
typedef struct {
    uint8_t session_id[16];
    hail_buffer *line;
} credential;

static inline void told_text(const hail_event *event, uint32_t field, char *into, size_t size)
{
    const char *text = hail_event_text(event, field);
    if (text != NULL)
        snprintf(into, size, "%s", text);
}

static inline void told_number(const hail_event *event, uint32_t field, uint64_t *into)
{
    if (hail_event_has(event, field))
        *into = hail_event_u64(event, field);
}

static inline void told_event(const hail_event *event)
{
    told *all = hail_event_user(event);
    size_t size = 0;
    if (all == NULL)
        return;
    CHECK(hail_event_kind(event) < 128);
    all->count[hail_event_kind(event)]++;
    told_number(event, HAIL_FIELD_TICKET, &all->ticket);
    told_number(event, HAIL_FIELD_STATUS, &all->status);
    if (hail_event_kind(event) == HAIL_EVENT_DOWN && all->count[HAIL_EVENT_DOWN] == 1)
        all->first_down = all->status;
    told_number(event, HAIL_FIELD_NUMBER, &all->number);
    told_number(event, HAIL_FIELD_SEQUENCE, &all->sequence);
    told_number(event, HAIL_FIELD_REDELIVERED, &all->redelivered);
    told_number(event, HAIL_FIELD_MISSED, &all->missed);
    told_number(event, HAIL_FIELD_WAITING, &all->waiting);
    told_number(event, HAIL_FIELD_TOLD, &all->told);
    told_number(event, HAIL_FIELD_REQUEST, &all->request);
    told_number(event, HAIL_FIELD_CODE, &all->code);
    told_number(event, HAIL_FIELD_ONLINE, &all->online);
    told_number(event, HAIL_FIELD_RESUMED, &all->resumed);
    told_text(event, HAIL_FIELD_SENDER, all->sender, sizeof all->sender);
    told_text(event, HAIL_FIELD_STATE, all->state, sizeof all->state);
    told_text(event, HAIL_FIELD_ID, all->id, sizeof all->id);
    told_text(event, HAIL_FIELD_USER, all->user, sizeof all->user);
    const uint8_t *body = hail_event_bytes(event, HAIL_FIELD_BODY, &size);
    if (body != NULL)
        snprintf(all->body, sizeof all->body, "%.*s", (int)size, (const char *)body);
}

/* Turns a loop once, and writes down what its objects tell. */
static inline void turn(hail_loop *loop)
{
    const hail_event *event;
    check_wait(loop);
    CHECK_OK(loop, hail_loop_step(loop));
    while ((event = hail_loop_next_event(loop)) != NULL)
        told_event(event);
}

/* Turns a loop until so many events of a kind were told. */
static inline void turn_until(hail_loop *loop, const told *by, uint32_t kind, uint64_t wanted)
{
    for (long long end = check_ms() + 60000; by->count[kind] < wanted; turn(loop))
        if (check_ms() >= end) {
            fprintf(stderr, "%llu events %s in a minute, not %llu\n", (unsigned long long)by->count[kind],
                    hail_event_name(kind), (unsigned long long)wanted);
            exit(1);
        }
}

/* Turns a loop until what was asked for under a ticket is durable. */
static inline void turn_durable(hail_loop *loop, const told *office, uint64_t ticket)
{
    long long end = check_ms() + 60000;
    while (office->ticket < ticket || office->count[HAIL_EVENT_DURABLE] == 0) {
        CHECK_IS(office->count[HAIL_EVENT_FAILED], 0);
        CHECK(check_ms() < end);
        turn(loop);
    }
}

/* `port` is 0 for one of the system's choice, and gets it; `store` is NULL for memory. */
static inline hail_office *office_on(hail_loop *loop, told *by, const char *store, uint16_t *port)
{
    char listen[64];
    const char *address = NULL;
    hail_office *office = NULL;
    snprintf(listen, sizeof listen, "hail://127.0.0.1:%u", (unsigned)*port);
    hail_config *config = check_config((const char *[]){"listen_devices", listen, "listen_apps", "tcp://127.0.0.1:0", NULL});
    if (store != NULL)
        CHECK_IS(hail_config_set(config, "store", store), HAIL_OK);
    CHECK_OK(loop, hail_office_new(loop, config, by, &office));
    hail_config_free(config);
    CHECK_OK(loop, hail_office_address(office, 0, &address, port));
    CHECK(strcmp(address, "127.0.0.1") == 0 && *port != 0);
    CHECK_IS(hail_office_address(office, 2, &address, port), HAIL_ERR_NOT_FOUND);
    return office;
}

/* Where an office has applications connect. */
static inline void office_apps(const hail_office *office, char *url, size_t size)
{
    const char *address = NULL;
    uint16_t port = 0;
    CHECK_IS(hail_office_address(office, 1, &address, &port), HAIL_OK);
    snprintf(url, size, "tcp://%s:%u", address, (unsigned)port);
}

/* A device of a user, who is new when `is_new`. */
static inline credential enrol(hail_loop *loop, hail_office *office, const told *by, const char *user, int is_new)
{
    static const uint8_t device[16] = {1};
    credential made = {{0}, NULL};
    uint64_t ticket = 0;
    if (is_new) {
        CHECK_OK(loop, hail_office_add_user(office, user, &ticket));
        turn_durable(loop, by, ticket);
    }
    CHECK_OK(loop, hail_office_add_device(office, user, device, 0, NULL, made.session_id, &made.line, &ticket));
    turn_durable(loop, by, ticket);
    return made;
}

/* `store` is NULL for memory; `options` more of them, with a NULL at the end, or NULL. */
static inline hail_device *device_with(hail_loop *loop, told *by, const hail_buffer *line, const char *store,
                                       const char *const *options)
{
    hail_device *device = NULL;
    hail_config *config = check_config(options != NULL ? options : (const char *const[]){NULL});
    CHECK_IS(hail_config_set_bytes(config, "credential", hail_buffer_data(line), hail_buffer_size(line)), HAIL_OK);
    if (store != NULL)
        CHECK_IS(hail_config_set(config, "store", store), HAIL_OK);
    CHECK_OK(loop, hail_device_new(loop, config, by, &device));
    hail_config_free(config);
    return device;
}

static inline hail_device *device_on(hail_loop *loop, told *by, const hail_buffer *line, const char *store)
{
    return device_with(loop, by, line, store, NULL);
}

static inline uint64_t put_text(hail_loop *loop, hail_device *device, const char *to, const char *text)
{
    uint64_t number = 0;
    CHECK_OK(loop, hail_device_put(device, to, 1, 0, NULL, (const uint8_t *)text, strlen(text), &number));
    CHECK(number != 0);
    return number;
}

static inline uint64_t device_counter(hail_loop *loop, const hail_device *device, const char *name)
{
    uint64_t value = 0;
    CHECK_OK(loop, hail_device_counter(device, name, &value));
    return value;
}

static inline uint64_t office_counter(hail_loop *loop, const hail_office *office, const char *name)
{
    uint64_t value = 0;
    CHECK_OK(loop, hail_office_counter(office, name, &value));
    return value;
}

#endif
