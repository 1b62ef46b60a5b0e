/* Several loops inside one epoll, and one more above descriptor 1023 where select() cannot reach, with its sockets: the
 * library itself never selects. */
#include "two_ends.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

enum { GATEWAYS = 4 };

static void turn(hail_loop *loop, int *synced)
{
    const hail_event *event;
    CHECK_OK(loop, hail_loop_step(loop));
    while ((event = hail_loop_next_event(loop)) != NULL)
        *synced += hail_event_kind(event) == HAIL_EVENT_SYNCED;
}

static void in_epoll(void)
{
    hail_loop *loops[GATEWAYS + 1] = {NULL};
    hail_gateway *gateways[GATEWAYS];
    uint16_t port = 0;
    char url[64];
    int poller = epoll_create1(EPOLL_CLOEXEC), synced = 0;
    CHECK(poller >= 0);
    for (int at = 0; at <= GATEWAYS; at++)
        CHECK_IS(hail_loop_new(&loops[at]), HAIL_OK);
    hail_backend *backend = backend_on(loops[GATEWAYS], "udp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "udp://localhost:%u", (unsigned)port);
    for (int at = 0; at < GATEWAYS; at++)
        gateways[at] = gateway_to(loops[at], url, NULL);
    for (int at = 0; at <= GATEWAYS; at++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = loops[at]};
        CHECK_IS(epoll_ctl(poller, EPOLL_CTL_ADD, hail_loop_fd(loops[at]), &wanted), 0);
    }
    for (long long end = check_ms() + 60000; synced < GATEWAYS;) {
        struct epoll_event ready[GATEWAYS + 1];
        int timeout = 1000;
        for (int at = 0; at <= GATEWAYS; at++) {
            int own = hail_loop_timeout_ms(loops[at]);
            if (own >= 0 && own < timeout)
                timeout = own;
        }
        int count = epoll_wait(poller, ready, GATEWAYS + 1, timeout);
        CHECK(count >= 0 && check_ms() < end);
        for (int at = 0; at < count; at++)
            turn(ready[at].data.ptr, &synced);
        /* Timers are not in the descriptor: who has one due is turned too. */
        for (int at = 0; at <= GATEWAYS; at++)
            if (hail_loop_timeout_ms(loops[at]) == 0)
                turn(loops[at], &synced);
    }
    for (int at = 0; at < GATEWAYS; at++)
        hail_gateway_free(gateways[at]);
    hail_backend_free(backend);
    for (int at = 0; at <= GATEWAYS; at++)
        hail_loop_free(loops[at]);
    close(poller);
}

static void in_select(hail_loop *loop, hail_gateway *gateway)
{
    int synced = 0;
    for (long long end = check_ms() + 60000; !synced;) {
        fd_set descriptors;
        int timeout = hail_loop_timeout_ms(loop), descriptor = hail_loop_fd(loop);
        if (timeout < 0 || timeout > 1000)
            timeout = 1000;
        struct timeval wait = {timeout / 1000, timeout % 1000 * 1000};
        CHECK(descriptor >= 0 && descriptor < FD_SETSIZE && check_ms() < end);
        FD_ZERO(&descriptors);
        FD_SET(descriptor, &descriptors);
        CHECK(select(descriptor + 1, &descriptors, NULL, NULL, &wait) >= 0);
        turn(loop, &synced);
    }
    CHECK_IS(hail_gateway_state(gateway), HAIL_GATEWAY_ACTIVE);
}

/* A vendor with select() has the loop's descriptor below 1024, and all sockets of it above. */
static void above_1023(void)
{
    struct rlimit limit;
    CHECK_IS(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    if (limit.rlim_cur < 1200 || setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        printf("SKIPPED: descriptors above 1023 (ulimit -n is %lu)\n", (unsigned long)limit.rlim_max);
        return;
    }
    hail_loop *low = NULL, *high = NULL;
    uint16_t port = 0;
    char url[64];
    static int held[1200];
    int count = 0;
    CHECK_IS(hail_loop_new(&low), HAIL_OK);
    do
        CHECK((held[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
    while (held[count++] < 1100);
    hail_backend *backend = backend_on(low, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *gateway = gateway_to(low, url, NULL);
    in_select(low, gateway);

    CHECK_IS(hail_loop_new(&high), HAIL_OK);
    CHECK(hail_loop_fd(high) > 1023);
    hail_backend *other = backend_on(high, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *another = gateway_to(high, url, NULL);
    check_await(high, another, HAIL_EVENT_SYNCED);

    hail_gateway_free(gateway);
    hail_gateway_free(another);
    hail_backend_free(backend);
    hail_backend_free(other);
    hail_loop_free(low);
    hail_loop_free(high);
    while (count > 0)
        close(held[--count]);
}

int main(void)
{
    in_epoll();
    above_1023();
    return 0;
}
