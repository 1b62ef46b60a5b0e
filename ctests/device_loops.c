/* A device in every loop that a vendor may have: select, epoll with an office on a loop of its own beside it, and
 * hail_loop_run with the office in another thread. An idle session costs no turns. (poll: examples/c/device_poll.c.) */
#include "post.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { MESSAGES = 20 };

/* Pulls what there is, and writes to itself until it said enough; each message is confirmed. */
static void pull(hail_loop *loop, hail_device *device, told *by)
{
    const hail_event *event;
    while ((event = hail_loop_next_event(loop)) != NULL) {
        told_event(event);
        if (hail_event_source(event) != device)
            continue;
        if (hail_event_kind(event) == HAIL_EVENT_MESSAGE)
            CHECK_OK(loop, hail_device_confirm(device, by->sequence));
        if (hail_event_kind(event) == HAIL_EVENT_WELCOME || hail_event_kind(event) == HAIL_EVENT_CONFIRMED)
            if (by->count[HAIL_EVENT_CONFIRMED] < MESSAGES)
                put_text(loop, device, "user:anna", "to myself");
    }
}

static int is_done(const told *by)
{
    return by->count[HAIL_EVENT_CONFIRMED] == MESSAGES && by->count[HAIL_EVENT_MESSAGE] == MESSAGES;
}

static int at_most(int own, int limit)
{
    return own < 0 || own > limit ? limit : own;
}

static void in_select(void)
{
    hail_loop *loop = NULL;
    told by_office = {0}, by = {0};
    uint16_t port = 0;
    int turns = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_office *office = office_on(loop, &by_office, NULL, &port);
    credential who = enrol(loop, office, &by_office, "anna", 1);
    hail_device *device = device_on(loop, &by, who.line, NULL);
    for (long long end = check_ms() + 60000, idle = 0; idle == 0 || check_ms() < idle; turns++) {
        fd_set descriptors;
        int timeout = at_most(hail_loop_timeout_ms(loop), 200), descriptor = hail_loop_fd(loop);
        struct timeval wait = {timeout / 1000, timeout % 1000 * 1000};
        CHECK(descriptor < FD_SETSIZE && check_ms() < end);
        FD_ZERO(&descriptors);
        FD_SET(descriptor, &descriptors);
        CHECK(select(descriptor + 1, &descriptors, NULL, NULL, &wait) >= 0);
        CHECK_OK(loop, hail_loop_step(loop));
        pull(loop, device, &by);
        /* Then a second in which nothing is due but what the link has to say of itself. */
        if (idle == 0 && is_done(&by)) {
            idle = check_ms() + 1000;
            turns = 0;
        }
    }
    if (turns > 60) {
        fprintf(stderr, "%d turns in an idle second\n", turns);
        exit(1);
    }
    hail_device_free(device);
    hail_office_free(office);
    hail_loop_free(loop);
    hail_buffer_free(who.line);
}

static void in_epoll(void)
{
    hail_loop *loops[2] = {NULL, NULL};
    told by_office = {0}, by = {0};
    uint16_t port = 0;
    int poller = epoll_create1(EPOLL_CLOEXEC);
    CHECK(poller >= 0);
    for (int at = 0; at < 2; at++) {
        CHECK_IS(hail_loop_new(&loops[at]), HAIL_OK);
        struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = (uint32_t)at};
        CHECK_IS(epoll_ctl(poller, EPOLL_CTL_ADD, hail_loop_fd(loops[at]), &wanted), 0);
    }
    hail_office *office = office_on(loops[0], &by_office, NULL, &port);
    credential who = enrol(loops[0], office, &by_office, "anna", 1);
    hail_device *device = device_on(loops[1], &by, who.line, NULL);
    for (long long end = check_ms() + 60000; !is_done(&by);) {
        struct epoll_event ready[2];
        int timeout = at_most(hail_loop_timeout_ms(loops[0]), at_most(hail_loop_timeout_ms(loops[1]), 1000));
        int count = epoll_wait(poller, ready, 2, timeout), is_ready[2] = {0, 0};
        CHECK(count >= 0 && check_ms() < end);
        for (int at = 0; at < count; at++)
            is_ready[ready[at].data.u32] = 1;
        for (int at = 0; at < 2; at++)
            /* Timers are not in the descriptor: who has one due is turned too. */
            if (is_ready[at] || hail_loop_timeout_ms(loops[at]) == 0) {
                CHECK_OK(loops[at], hail_loop_step(loops[at]));
                pull(loops[at], device, &by);
            }
    }
    hail_device_free(device);
    hail_office_free(office);
    hail_loop_free(loops[0]);
    hail_loop_free(loops[1]);
    hail_buffer_free(who.line);
    close(poller);
}

static atomic_int stop;
static hail_loop *_Atomic far;
static credential theirs;

/* The office's thread; only hail_loop_wake() crosses over, and the line that it handed out before. */
static void *far_end(void *unused)
{
    (void)unused;
    hail_loop *loop = NULL;
    told by = {0};
    uint16_t port = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_office *office = office_on(loop, &by, NULL, &port);
    theirs = enrol(loop, office, &by, "anna", 1);
    far = loop;
    while (!stop) {
        CHECK_OK(loop, hail_loop_run(loop, -1));
        while (hail_loop_next_event(loop) != NULL)
            ;
    }
    hail_office_free(office);
    return loop;
}

static void on_run(void)
{
    pthread_t thread;
    hail_loop *loop = NULL;
    told by = {0};
    void *other = NULL;
    CHECK_IS(pthread_create(&thread, NULL, far_end, NULL), 0);
    while (far == NULL)
        usleep(1000);
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_device *device = device_on(loop, &by, theirs.line, NULL);
    while (!is_done(&by)) {
        CHECK_OK(loop, hail_loop_run(loop, 60000));
        pull(loop, device, &by);
    }

    /* A wake that comes before a put that waits is not lost by it. */
    while (hail_loop_run(loop, 300) == HAIL_OK)
        pull(loop, device, &by);
    uint64_t number = 0;
    CHECK_IS(hail_loop_wake(loop), HAIL_OK);
    CHECK_OK(loop, hail_device_put_wait(device, "user:anna", 0, 0, NULL, NULL, 0, -1, &number));
    CHECK_OK(loop, hail_loop_run(loop, 60000));
    stop = 1;
    CHECK_IS(hail_loop_wake(far), HAIL_OK);
    CHECK_IS(pthread_join(thread, &other), 0);
    hail_device_free(device);
    hail_loop_free(loop);
    hail_loop_free(other);
    hail_buffer_free(theirs.line);
}

int main(void)
{
    in_select();
    in_epoll();
    on_run();
    return 0;
}
