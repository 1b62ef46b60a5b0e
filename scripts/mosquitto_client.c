/* What stands beside home_gateway in scripts/bench.py: an MQTT client that subscribes and then idles.
 *   mosquitto_client PORT [CAFILE] */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>

static void connected(struct mosquitto *client, void *user, int status)
{
    (void)user;
    if (status != 0)
        exit(fprintf(stderr, "mosquitto_client: refused: %d\n", status));
    mosquitto_subscribe(client, NULL, "bench", 0);
}

static void subscribed(struct mosquitto *client, void *user, int id, int count, const int *granted)
{
    (void)client, (void)user, (void)id, (void)count, (void)granted;
    int major, minor, revision;
    mosquitto_lib_version(&major, &minor, &revision);
    printf("synced %d.%d.%d\n", major, minor, revision);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new("bench", 1, NULL);
    mosquitto_connect_callback_set(client, connected);
    mosquitto_subscribe_callback_set(client, subscribed);
    int status = count > 2 ? mosquitto_tls_set(client, arguments[2], NULL, NULL, NULL, NULL) : MOSQ_ERR_SUCCESS;
    if (status == MOSQ_ERR_SUCCESS)
        status = mosquitto_connect(client, "localhost", atoi(arguments[1]), 5);
    if (status == MOSQ_ERR_SUCCESS)
        status = mosquitto_loop_forever(client, -1, 1);
    return fprintf(stderr, "mosquitto_client: %s\n", mosquitto_strerror(status)), 1;
}
