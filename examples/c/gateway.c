/* The smallest gateway: registers, and prints what it learns. cc gateway.c $(pkg-config --cflags --libs hailpost) */
#include <hailpost.h>
#include <poll.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    hail_loop *loop = NULL;
    hail_config *config = NULL;
    hail_gateway *gateway = NULL;
    const hail_event *event;
    hail_loop_new(&loop);
    hail_config_new(&config);
    hail_config_set(config, "backend", count > 1 ? arguments[1] : "tcp://127.0.0.1:7700");
    if (hail_gateway_new(loop, config, NULL, &gateway) != HAIL_OK)
        return fprintf(stderr, "%s\n", hail_loop_detail(loop)), 1;
    while (hail_loop_step(loop) == HAIL_OK) {
        while ((event = hail_loop_next_event(loop)) != NULL) {
            printf("%s", hail_event_name(hail_event_kind(event)));
            if (hail_event_has(event, HAIL_FIELD_APP))
                printf(": application %llu", (unsigned long long)hail_event_u64(event, HAIL_FIELD_APP));
            printf(" %s\n", hail_event_text(event, HAIL_FIELD_TEXT) ? hail_event_text(event, HAIL_FIELD_TEXT) : "");
        }
        struct pollfd wait = {hail_loop_fd(loop), POLLIN, 0};
        poll(&wait, 1, hail_loop_timeout_ms(loop));
    }
    return 1;
}
