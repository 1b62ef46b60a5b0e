/* examples/c/device_poll.c as a vendor would run it: two of them, each a process of its own, against an office here. One is
 * told to stop and misses nothing. */
#include "post.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char directory[] = "/tmp/hailpost-XXXXXX", program[4096];
static hail_loop *loop;

typedef struct {
    char credential[96], store[96];
    pid_t child;
    int in, out;
    size_t size;
    char said[4096];
} process;

static void credential_of(process *one, hail_office *office, const told *by, const char *user)
{
    char path[64];
    credential who = enrol(loop, office, by, user, 1);
    snprintf(path, sizeof path, "%s/%s", directory, user);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK_IS(write(file, hail_buffer_data(who.line), hail_buffer_size(who.line)), hail_buffer_size(who.line));
    close(file);
    hail_buffer_free(who.line);
    snprintf(one->credential, sizeof one->credential, "credential_file=%s", path);
    snprintf(one->store, sizeof one->store, "store=%s.db", path);
}

static void start(process *one)
{
    int in[2], out[2];
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    one->child = fork();
    CHECK(one->child >= 0);
    if (one->child == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl(program, program, one->credential, one->store, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    one->in = in[1];
    one->out = out[0];
    one->size = 0;
}

static void stop(process *one)
{
    int status = 0;
    CHECK_IS(kill(one->child, SIGTERM), 0);
    CHECK_IS(waitpid(one->child, &status, 0), one->child);
    CHECK(WIFEXITED(status));
    CHECK_IS(WEXITSTATUS(status), 0);
    close(one->in);
    close(one->out);
}

static void tell(const process *one, const char *line)
{
    CHECK_IS(write(one->in, line, strlen(line)), strlen(line));
}

/* Turns the office until a process has said this. */
static void until(process *one, const char *wanted)
{
    for (long long end = check_ms() + 60000;;) {
        one->said[one->size] = 0;
        if (strstr(one->said, wanted) != NULL)
            return;
        if (check_ms() >= end) {
            fprintf(stderr, "not said: %s\n%s", wanted, one->said);
            exit(1);
        }
        struct pollfd wait[2] = {{hail_loop_fd(loop), POLLIN, 0}, {one->out, POLLIN, 0}};
        int timeout = hail_loop_timeout_ms(loop);
        CHECK(poll(wait, 2, timeout < 0 || timeout > 1000 ? 1000 : timeout) >= 0);
        if (wait[1].revents != 0) {
            ssize_t count = read(one->out, one->said + one->size, sizeof one->said - 1 - one->size);
            CHECK(count > 0);
            one->size += (size_t)count;
        }
        CHECK_OK(loop, hail_loop_step(loop));
        while (hail_loop_next_event(loop) != NULL)
            ;
    }
}

int main(int count, char **arguments)
{
    static process anna, bert;
    static told by;
    uint16_t port = 0;
    char command[128];
    const char *slash = strrchr(arguments[0], '/');
    snprintf(program, sizeof program, "%.*sdevice_poll", slash == NULL ? 0 : (int)(slash + 1 - arguments[0]), arguments[0]);
    if (count < 1 || access(program, X_OK) != 0) {
        printf("SKIPPED: %s is not built\n", program);
        return 0;
    }
    CHECK(mkdtemp(directory) != NULL);
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    hail_office *office = office_on(loop, &by, NULL, &port);
    credential_of(&anna, office, &by, "anna");
    credential_of(&bert, office, &by, "bert");
    start(&anna);
    start(&bert);
    until(&anna, "welcome 0 waiting");
    until(&bert, "welcome 0 waiting");
    tell(&anna, "user:bert hello\nnonsense\nuser:nobody hello\n");
    until(&bert, "user:anna hello\nconfirmed");
    until(&anna, "queued\n");
    until(&anna, " 404\n");
    stop(&bert);
    tell(&anna, "user:bert while you were away\n");
    until(&anna, " stored\n");
    start(&bert);
    until(&bert, "welcome 1 waiting");
    until(&bert, "user:anna while you were away\n");
    CHECK(strstr(bert.said, "hello") == NULL);
    stop(&bert);
    stop(&anna);
    hail_office_free(office);
    hail_loop_free(loop);
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_IS(system(command), 0);
    return 0;
}
