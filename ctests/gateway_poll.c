/* A gateway in a vendor's own poll loop, beside a descriptor of the vendor's; the other end answers on the same loop.
 * An idle link costs no turns. */
#include "two_ends.h"

#include <unistd.h>

int main(void)
{
    hail_loop *loop = NULL;
    uint16_t port = 0;
    char url[64];
    int own[2], turns = 0, synced = 0, acknowledged = 0, result = 0;
    CHECK_IS(pipe(own), 0);
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *gateway = gateway_to(loop, url, NULL);
    hail_gateway *neighbour = gateway_to(loop, url, NULL);
    CHECK_OK(loop, hail_gateway_set_heartbeat_ms(gateway, 3000));
    CHECK_OK(loop, hail_gateway_set_heartbeat_ms(neighbour, 3000));

    long long end = check_ms() + 60000;
    while (!(acknowledged && result)) {
        struct pollfd descriptors[2] = {{hail_loop_fd(loop), POLLIN, 0}, {own[0], POLLIN, 0}};
        CHECK(poll(descriptors, 2, hail_loop_timeout_ms(loop)) >= 0);
        CHECK(check_ms() < end);
        if (descriptors[1].revents & POLLIN) {
            char octet;
            CHECK_IS(read(own[0], &octet, 1), 1);
            hail_record record = check_record(5);
            CHECK_OK(loop, hail_gateway_report(gateway, &record));
        }
        CHECK_OK(loop, hail_loop_step(loop));
        const hail_event *event;
        while ((event = hail_loop_next_event(loop)) != NULL)
            switch (hail_event_kind(event)) {
            case HAIL_EVENT_SYNCED:
                if (++synced == 2)
                    CHECK_IS(write(own[1], "x", 1), 1);
                break;
            case HAIL_EVENT_ACKNOWLEDGED:
                acknowledged = hail_event_source(event) == gateway;
                break;
            case HAIL_EVENT_RESULT:
                result = hail_event_source(event) == neighbour;
                break;
            default:
                break;
            }
    }

    /* For a second nothing is due but a heartbeat of each and its answer: a loop that spins would turn far more often. */
    for (end = check_ms() + 1000; check_ms() < end; turns++) {
        struct pollfd descriptor = {hail_loop_fd(loop), POLLIN, 0};
        int timeout = hail_loop_timeout_ms(loop), left = (int)(end - check_ms());
        CHECK(poll(&descriptor, 1, timeout < 0 || timeout > left ? left : timeout) >= 0);
        CHECK_OK(loop, hail_loop_step(loop));
        while (hail_loop_next_event(loop) != NULL)
            ;
    }
    if (turns > 60) {
        fprintf(stderr, "%d turns in an idle second\n", turns);
        return 1;
    }
    hail_gateway_free(neighbour);
    hail_gateway_free(gateway);
    hail_backend_free(backend);
    hail_loop_free(loop);
    close(own[0]);
    close(own[1]);
    return 0;
}
