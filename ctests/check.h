/* What the test programs share: checks that name their place, and a vendor's own poll loop. */
#ifndef CHECK_H
#define CHECK_H

#include <hailpost.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#define CHECK_IS(call, wanted) \
    do { \
        long long check_got = (long long)(call), check_wanted = (long long)(wanted); \
        if (check_got != check_wanted) { \
            fprintf(stderr, "%s:%d: %s gave %lld, not %lld\n", __FILE__, __LINE__, #call, check_got, check_wanted); \
            exit(1); \
        } \
    } while (0)

/* A call on a loop that must succeed; says why it did not. */
#define CHECK_OK(loop, call) \
    do { \
        hail_status check_status = (call); \
        if (check_status != HAIL_OK) { \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, hail_status_text(check_status), \
                    hail_loop_detail(loop)); \
            exit(1); \
        } \
    } while (0)

static inline long long check_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Waits as a vendor's loop does, but not forever. */
static inline void check_wait(hail_loop *loop)
{
    struct pollfd descriptor = {hail_loop_fd(loop), POLLIN, 0};
    int timeout = hail_loop_timeout_ms(loop);
    if (timeout < 0 || timeout > 1000)
        timeout = 1000;
    CHECK(poll(&descriptor, 1, timeout) >= 0);
}

/* Turns the loop until an object tells of this; the event lives until the next turn. */
static inline const hail_event *check_await(hail_loop *loop, const void *source, uint32_t kind)
{
    long long end = check_ms() + 60000;
    for (;;) {
        const hail_event *event;
        while ((event = hail_loop_next_event(loop)) != NULL)
            if (hail_event_kind(event) == kind && (source == NULL || hail_event_source(event) == source))
                return event;
        if (check_ms() >= end) {
            fprintf(stderr, "no event %s in a minute\n", hail_event_name(kind));
            exit(1);
        }
        check_wait(loop);
        CHECK_OK(loop, hail_loop_step(loop));
    }
}

/* Turns the loop until all that a gateway reported is acknowledged. */
static inline void check_acknowledged(hail_loop *loop, const hail_gateway *gateway)
{
    long long end = check_ms() + 60000;
    for (size_t pending = 1;;) {
        CHECK_OK(loop, hail_gateway_pending(gateway, &pending));
        if (pending == 0)
            return;
        CHECK(check_ms() < end);
        check_wait(loop);
        CHECK_OK(loop, hail_loop_step(loop));
        while (hail_loop_next_event(loop) != NULL)
            ;
    }
}

static inline hail_config *check_config(const char *const *pairs)
{
    hail_config *config = NULL;
    CHECK_IS(hail_config_new(&config), HAIL_OK);
    for (; *pairs != NULL; pairs += 2)
        if (hail_config_set(config, pairs[0], pairs[1]) != HAIL_OK) {
            fprintf(stderr, "%s\n", hail_config_detail(config));
            exit(1);
        }
    return config;
}

/* A record of TCP to port 443 of 203.0.113.9. */
static inline hail_record check_record(uint32_t app)
{
    hail_record record;
    memset(&record, 0, sizeof record);
    record.size = sizeof record;
    record.app = app;
    record.local_port = 40000;
    record.remote_port = 443;
    record.protocol = HAIL_PROTOCOL_TCP;
    CHECK_IS(hail_address_parse("192.168.1.2", record.local_address), HAIL_OK);
    CHECK_IS(hail_address_parse("203.0.113.9", record.remote_address), HAIL_OK);
    return record;
}

#endif
