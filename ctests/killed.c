/* A back end that is killed in the middle: its gateway comes back by itself, tells what was not acknowledged, and is synced
 * again; what was acknowledged is there. The back end lives in a process of its own. */
#include "two_ends.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORTS = 200, BEFORE = 50 };

static char file[64];

static hail_backend *open_on(hail_loop *loop, uint16_t *port)
{
    char listen[64];
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:%u", (unsigned)*port);
    return backend_on(loop, listen, NULL, file, port);
}

/* The back end's process: says its port, and works until it is killed. */
static pid_t start(uint16_t *port)
{
    int says[2];
    CHECK_IS(pipe(says), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hail_loop *loop = NULL;
        CHECK_IS(hail_loop_new(&loop), HAIL_OK);
        open_on(loop, port);
        CHECK_IS(write(says[1], port, sizeof *port), sizeof *port);
        for (;;) {
            hail_loop_run(loop, -1);
            while (hail_loop_next_event(loop) != NULL)
                ;
        }
    }
    close(says[1]);
    CHECK_IS(read(says[0], port, sizeof *port), sizeof *port);
    close(says[0]);
    return child;
}

static void end(pid_t child)
{
    int status = 0;
    CHECK_IS(kill(child, SIGKILL), 0);
    CHECK_IS(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

static char acknowledged[REPORTS];

/* Turns the gateway's loop until so many of the reports are acknowledged. */
static void until(hail_loop *loop, int wanted)
{
    for (int count = 0; count < wanted;) {
        const hail_event *event = check_await(loop, NULL, HAIL_EVENT_ACKNOWLEDGED);
        acknowledged[hail_event_u64(event, HAIL_FIELD_REMOTE_PORT) - 1] = 1;
        count = 0;
        for (int at = 0; at < REPORTS; at++)
            count += acknowledged[at];
    }
}

int main(void)
{
    char directory[] = "/tmp/hailpost-XXXXXX", url[64], command[128];
    uint16_t port = 0, again;
    hail_loop *loop = NULL;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(file, sizeof file, "%s/backend.db", directory);
    pid_t child = start(&port);
    again = port;

    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_gateway *gateway = gateway_to(loop, url, NULL);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    hail_record record = check_record(7);
    for (int at = 1; at <= REPORTS; at++) {
        record.remote_port = (uint16_t)at;
        CHECK_OK(loop, hail_gateway_report(gateway, &record));
    }
    until(loop, BEFORE);
    end(child);
    check_await(loop, gateway, HAIL_EVENT_DOWN);
    child = start(&again);
    CHECK_IS(again, port);
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    check_acknowledged(loop, gateway);

    /* Its file is its own while it lives. */
    hail_loop *other = NULL;
    hail_backend *backend = NULL;
    hail_buffer *json = NULL;
    hail_config *config = check_config((const char *[]){"listen", "tcp://127.0.0.1:0", "store", file, NULL});
    CHECK_IS(hail_loop_new(&other), HAIL_OK);
    CHECK_IS(hail_backend_new(other, config, NULL, &backend), HAIL_ERR_STORE_LOCKED);
    hail_config_free(config);
    end(child);

    /* All of it is there, whatever was acknowledged when; and is told to a gateway that was not. */
    again = 0;
    backend = open_on(other, &again);
    CHECK_OK(other, hail_backend_list(backend, "results", "home", &json));
    const char *rows = (const char *)hail_buffer_data(json);
    for (int at = 1; at <= REPORTS; at++) {
        char row[32];
        snprintf(row, sizeof row, "\"remote_port\":%d,", at);
        CHECK(strstr(rows, row) != NULL);
    }
    hail_buffer_free(json);
    hail_gateway_free(gateway);
    hail_loop_free(loop);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)again);
    gateway = gateway_to(other, url, NULL);
    check_await(other, gateway, HAIL_EVENT_SYNCED);
    uint32_t app = 0;
    CHECK_OK(other, hail_gateway_result(gateway, record.remote_address, REPORTS, HAIL_PROTOCOL_TCP, &app));
    CHECK_IS(app, 7);
    hail_gateway_free(gateway);
    hail_backend_free(backend);
    hail_loop_free(other);
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_IS(system(command), 0);
    return 0;
}
