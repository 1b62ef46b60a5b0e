/* A gateway on hail_loop_run(), and its back end on a loop of another thread. A signal ends the wait. */
#include "two_ends.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_uint port;
static atomic_int stop;
static hail_loop *_Atomic far;
static volatile sig_atomic_t signalled;

/* One loop a thread; only hail_loop_wake() crosses over. */
static void *far_end(void *unused)
{
    (void)unused;
    hail_loop *loop = NULL;
    uint16_t chosen = 0;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &chosen);
    far = loop;
    port = chosen;
    while (!stop) {
        CHECK_OK(loop, hail_loop_run(loop, -1));
        while (hail_loop_next_event(loop) != NULL)
            ;
    }
    hail_backend_free(backend);
    return loop;
}

static void on_alarm(int number)
{
    (void)number;
    signalled = 1;
}

int main(void)
{
    pthread_t thread;
    sigset_t alarms;
    char url[64];
    /* Signals go to the main thread. */
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    CHECK_IS(pthread_create(&thread, NULL, far_end, NULL), 0);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    while (port == 0)
        usleep(1000);

    hail_loop *loop = NULL;
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *gateway = gateway_to(loop, url, NULL);
    hail_record record = check_record(11);
    CHECK_OK(loop, hail_gateway_report(gateway, &record));
    for (int acknowledged = 0; !acknowledged;) {
        CHECK_OK(loop, hail_loop_run(loop, 60000));
        const hail_event *event;
        while ((event = hail_loop_next_event(loop)) != NULL)
            if (hail_event_kind(event) == HAIL_EVENT_ACKNOWLEDGED)
                acknowledged = hail_event_u64(event, HAIL_FIELD_APP) == 11;
    }
    CHECK_IS(hail_gateway_state(gateway), HAIL_GATEWAY_ACTIVE);
    hail_gateway_free(gateway);

    /* Nothing is left to wait for, so that only the signal can end it. */
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_IS(sigaction(SIGALRM, &action, NULL), 0);
    ualarm(20000, 20000);
    while (!signalled)
        CHECK_OK(loop, hail_loop_run(loop, -1));
    ualarm(0, 0);
    hail_loop_free(loop);

    stop = 1;
    void *other = NULL;
    CHECK_IS(hail_loop_wake(far), HAIL_OK);
    CHECK_IS(pthread_join(thread, &other), 0);
    hail_loop_free(other);
    return 0;
}
