/* SIGPIPE has its default here, which ends a process. Peers that close in every state must not do that. */
#include "two_ends.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* A back end that takes connections and ends each: at once, after some octets, in order or by a reset. */
static void by_peer(const char *scheme, const identity *who)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), closed = 0, downs = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char url[256];
    hail_loop *loop = NULL;
    CHECK(listener >= 0);
    CHECK_IS(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_IS(listen(listener, 16), 0);
    CHECK_IS(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    snprintf(url, sizeof url, "%s://127.0.0.1:%u%s%s", scheme, (unsigned)ntohs(address.sin_port),
             who != NULL ? "?pin=" : "", who != NULL ? who->hex : "");
    hail_gateway *gateway = gateway_to(loop, url, who);
    for (long long end = check_ms() + 60000; closed < 12 || downs < 6;) {
        CHECK(check_ms() < end);
        int peer = accept(listener, NULL, NULL);
        if (peer >= 0) {
            char octets[64];
            if (closed % 3 != 0) {
                /* So that the gateway has written, and writes again after the end. */
                usleep(5000);
                CHECK_OK(loop, hail_loop_step(loop));
                if (recv(peer, octets, sizeof octets, MSG_DONTWAIT) < 0)
                    octets[0] = 0;
            }
            struct linger reset = {1, 0};
            if (closed % 2 == 0)
                CHECK_IS(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
            close(peer);
            closed++;
        }
        hail_record record = check_record(1);
        record.remote_port = (uint16_t)closed;
        (void)hail_gateway_report(gateway, &record);
        CHECK_OK(loop, hail_loop_network_changed(loop));
        CHECK_OK(loop, hail_loop_step(loop));
        const hail_event *event;
        while ((event = hail_loop_next_event(loop)) != NULL)
            downs += hail_event_kind(event) == HAIL_EVENT_DOWN;
        usleep(2000);
    }
    hail_gateway_free(gateway);
    hail_loop_free(loop);
    close(listener);
}

/* A gateway that goes while its back end has much to tell it; and a stranger who never reads. */
static void by_gateway(void)
{
    hail_loop *loop = NULL;
    uint16_t port = 0;
    char url[64];
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_backend *backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    for (int round = 0; round < 5; round++) {
        hail_gateway *gateway = gateway_to(loop, url, NULL);
        check_await(loop, gateway, HAIL_EVENT_SYNCED);
        char pattern[512];
        for (int rule = 0; rule < 20; rule++) {
            memset(pattern, 'x', sizeof pattern);
            int head = snprintf(pattern, sizeof pattern, "^%d-%d", round, rule);
            pattern[head] = 'x';
            CHECK_OK(loop, hail_backend_set_rule(backend, NULL, 1, (const uint8_t *)pattern, sizeof pattern, NULL));
        }
        hail_gateway_free(gateway);
        check_await(loop, backend, HAIL_EVENT_GATEWAY_GONE);
    }
    hail_backend_free(backend);
    hail_loop_free(loop);
}

int main(void)
{
    struct sigaction now;
    CHECK_IS(sigaction(SIGPIPE, NULL, &now), 0);
    if (now.sa_handler != SIG_DFL)
        signal(SIGPIPE, SIG_DFL);
    by_peer("tcp", NULL);
    identity who = identity_new("gateway");
    by_peer("tls", &who);
    hail_buffer_free(who.pem);
    by_gateway();
    /* The library did not touch it either. */
    CHECK_IS(sigaction(SIGPIPE, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
    return 0;
}
