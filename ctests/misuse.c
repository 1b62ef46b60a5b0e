/* Every wrong use that the contract speaks of answers with a status and does nothing. */
#include "post.h"
#include "two_ends.h"

#include <sys/wait.h>
#include <unistd.h>

static hail_loop *loop;
static hail_config *config;
static hail_gateway *gateway;
static hail_backend *backend;
static hail_recognizer *recognizer;
static hail_office *office;
static hail_device *device;
static hail_app *app;
static told by_office, by_device, by_app;

static const uint8_t key[32] = {1};
static const char not_utf8[] = "\xff\xfe";

/* NULL for each pointer argument, one by one. */
static void null_for_each(void)
{
    hail_loop *new_loop = NULL;
    hail_config *new_config = NULL;
    hail_gateway *new_gateway = NULL;
    hail_backend *new_backend = NULL;
    hail_recognizer *new_recognizer = NULL;
    hail_office *new_office = NULL;
    hail_device *new_device = NULL;
    hail_app *new_app = NULL;
    hail_message message;
    hail_buffer *buffer = NULL, *detail = NULL;
    hail_record record = check_record(1);
    const char *address = NULL;
    uint8_t octets[32] = {0};
    uint16_t port = 9;
    uint32_t word = 9;
    uint64_t number = 9;
    size_t size = 9;

    CHECK_IS(hail_loop_new(NULL), HAIL_ERR_INVALID);
    hail_loop_free(NULL);
    CHECK(hail_loop_fd(NULL) < 0);
    CHECK_IS(hail_loop_timeout_ms(NULL), 0);
    CHECK_IS(hail_loop_step(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_run(NULL, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_wake(NULL), HAIL_ERR_INVALID);
    CHECK(hail_loop_next_event(NULL) == NULL);
    CHECK(strcmp(hail_loop_detail(NULL), "") == 0);
    CHECK_IS(hail_loop_network_changed(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_set_log(NULL, HAIL_LOG_INFO, NULL, NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_config_new(NULL), HAIL_ERR_INVALID);
    hail_config_free(NULL);
    CHECK_IS(hail_config_set(NULL, "family", "4"), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set(config, NULL, "4"), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set(config, "family", NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set_bytes(NULL, "identity_pem", key, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set_bytes(config, NULL, key, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set_bytes(config, "identity_pem", NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_dump(NULL, HAIL_ROLE_GATEWAY, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_dump(config, HAIL_ROLE_GATEWAY, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_load(NULL, HAIL_ROLE_GATEWAY, "x"), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_load(config, HAIL_ROLE_GATEWAY, NULL), HAIL_ERR_INVALID);
    CHECK(strcmp(hail_config_detail(NULL), "") == 0);

    CHECK_IS(hail_event_kind(NULL), 0);
    CHECK(hail_event_source(NULL) == NULL && hail_event_user(NULL) == NULL);
    CHECK_IS(hail_event_has(NULL, HAIL_FIELD_APP), 0);
    CHECK_IS(hail_event_u64(NULL, HAIL_FIELD_APP), 0);
    CHECK(hail_event_text(NULL, HAIL_FIELD_TEXT) == NULL);
    CHECK(hail_event_bytes(NULL, HAIL_FIELD_KEY, &size) == NULL && size == 9);
    CHECK_IS(hail_event_record(NULL, &record), HAIL_ERR_INVALID);

    CHECK_IS(hail_address_parse(NULL, octets), HAIL_ERR_INVALID);
    CHECK_IS(hail_address_parse("::1", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_gateway_new(NULL, config, NULL, &new_gateway), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_new(loop, NULL, NULL, &new_gateway), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_gateway_free(NULL);
    CHECK_IS(hail_gateway_state(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_report(NULL, &record), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_report(gateway, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_report_features(NULL, 1, &word, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_report_features(gateway, 1, NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_result(NULL, octets, 1, HAIL_PROTOCOL_TCP, &word), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_result(gateway, NULL, 1, HAIL_PROTOCOL_TCP, &word), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_result(gateway, octets, 1, HAIL_PROTOCOL_TCP, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_pending(NULL, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_pending(gateway, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_leave(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_join(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_set_heartbeat_ms(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_feed(NULL, HAIL_LINK_RAW, 0, octets, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_feed(gateway, HAIL_LINK_RAW, 0, NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_finish(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_counter(NULL, "resent", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_counter(gateway, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_counter(gateway, "resent", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_recognizer_new(NULL, config, NULL, &new_recognizer), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_new(loop, NULL, NULL, &new_recognizer), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_recognizer_free(NULL);
    CHECK_IS(hail_recognizer_feed(NULL, HAIL_LINK_RAW, 0, octets, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_feed(recognizer, HAIL_LINK_RAW, 0, NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_finish(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_counter(NULL, "flows", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_counter(recognizer, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_counter(recognizer, "flows", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_backend_new(NULL, config, NULL, &new_backend), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_new(loop, NULL, NULL, &new_backend), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_backend_free(NULL);
    CHECK_IS(hail_backend_address(NULL, 0, &address, &port), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_address(backend, 0, NULL, &port), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_address(backend, 0, &address, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(NULL, key, "n", "g", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, NULL, "n", "g", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, NULL, "g", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, "n", NULL, 0, &number), HAIL_ERR_INVALID);
    const char *hail = "hail://127.0.0.1:7704";
    CHECK_IS(hail_backend_enrol_link(NULL, "n", "g", 0, hail, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol_link(backend, NULL, "g", 0, hail, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol_link(backend, "n", NULL, 0, hail, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol_link(backend, "n", "g", 2, hail, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol_link(backend, "n", "g", 0, NULL, octets, &buffer, &number), HAIL_ERR_CONFIG);
    CHECK_IS(hail_backend_enrol_link(backend, "n", "g", 0, "tls://a", octets, &buffer, &number), HAIL_ERR_CONFIG);
    CHECK_IS(hail_backend_enrol_link(backend, "n", "g", 0, hail, NULL, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol_link(backend, "n", "g", 0, hail, octets, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_revoke(NULL, key, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_revoke(backend, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_deregister(NULL, key, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_deregister(backend, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_allow(NULL, key, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_allow(backend, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_disconnect(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_rule(NULL, "g", 1, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_rule(backend, "g", 1, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_remove_rule(NULL, "g", 1, NULL, 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_remove_rule(backend, "g", 1, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_parameters(NULL, "g", 1, &word, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_parameters(backend, NULL, 1, &word, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_parameters(backend, "g", 1, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_gateways(NULL, &number, 1, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_gateways(backend, NULL, 1, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_gateways(backend, &number, 1, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_parameters(NULL, "g", 1, &word, 1, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_parameters(backend, NULL, 1, &word, 1, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_parameters(backend, "g", 1, &word, 1, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_roll_back(NULL, "g", 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_roll_back(backend, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_hold(NULL, "g", 1, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_hold(backend, NULL, 1, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_offer(NULL, "g", 1, &word, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_offer(backend, NULL, 1, &word, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_offer(backend, "g", 1, NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_samples(NULL, "g", 1, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_samples(backend, NULL, 1, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_samples(backend, "g", 1, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(NULL, "groups", NULL, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(backend, NULL, NULL, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_list(backend, "groups", NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_pending(NULL, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_pending(backend, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_list(NULL, "rules", &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_list(gateway, NULL, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_list(gateway, "rules", NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_counter(NULL, "accepted", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_counter(loop, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_counter(loop, "accepted", NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_counter(loop, "nothing", &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_counter(NULL, "refused", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_counter(backend, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_counter(backend, "refused", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_device_new(NULL, config, NULL, &new_device), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_new(loop, NULL, NULL, &new_device), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_device_free(NULL);
    CHECK_IS(hail_device_put(NULL, "user:anna", 1, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, NULL, 1, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, NULL, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put_wait(NULL, "user:anna", 1, 0, NULL, key, 1, 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put_wait(device, NULL, 1, 0, NULL, key, 1, 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put_wait(device, "user:anna", 1, 0, NULL, NULL, 1, 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_confirm(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_subscribe(NULL, "news", 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_subscribe(device, NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_keep(NULL, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_query(NULL, "anna", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_query(device, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_close(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_suspend(NULL, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_resume(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_set_metered(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_is_up(NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_pending(NULL, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_pending(device, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_counter(NULL, "put", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_counter(device, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_counter(device, "put", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_office_new(NULL, config, NULL, &new_office), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_new(loop, NULL, NULL, &new_office), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_office_free(NULL);
    CHECK_IS(hail_office_address(NULL, 0, &address, &port), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_address(office, 0, NULL, &port), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_address(office, 0, &address, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_key(NULL, octets), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_key(office, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_user(NULL, "anna", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_user(office, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(NULL, "anna", key, 0, NULL, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(office, NULL, key, 0, NULL, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(office, "anna", NULL, 0, NULL, octets, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(office, "anna", key, 0, NULL, NULL, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(office, "anna", key, 0, NULL, octets, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_revoke_device(NULL, key, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_revoke_device(office, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_app(NULL, "news", 0, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_app(office, NULL, 0, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_app(office, "news", 0, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_admit(NULL, 1, "anna", key, key, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_admit(office, 1, NULL, key, key, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_admit(office, 1, "anna", NULL, key, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_admit(office, 1, "anna", key, NULL, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_refuse(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_drain(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_counter(NULL, "held", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_counter(office, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_counter(office, "held", NULL), HAIL_ERR_INVALID);

    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    CHECK_IS(hail_app_new(NULL, config, NULL, &new_app), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_new(loop, NULL, NULL, &new_app), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_new(loop, config, NULL, NULL), HAIL_ERR_INVALID);
    hail_app_free(NULL);
    CHECK_IS(hail_app_send(app, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_send(app, &message, NULL), HAIL_ERR_INVALID);
    message.to = "user:anna";
    CHECK_IS(hail_app_send(NULL, &message, NULL), HAIL_ERR_INVALID);
    message.body_size = 1;
    CHECK_IS(hail_app_send(app, &message, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_query(NULL, "anna", NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_query(app, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_cancel(NULL, "17"), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_cancel(app, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_confirm(NULL, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_pending(NULL, &size), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_pending(app, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_counter(NULL, "logins", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_counter(app, NULL, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_counter(app, "logins", NULL), HAIL_ERR_INVALID);

    CHECK_IS(hail_identity_generate(NULL, &buffer, octets, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_identity_generate("n", NULL, octets, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_identity_generate("n", &buffer, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_identity_key_id(NULL, 1, octets, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_identity_key_id(octets, 1, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_decode(NULL, octets, 1, &buffer, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_decode("gateway", NULL, 1, &buffer, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_decode("gateway", octets, 1, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_encode(NULL, "{}", &buffer, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_encode("gateway", NULL, &buffer, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_encode("gateway", "{}", NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_encode("gateway", NULL, &buffer, &detail), HAIL_ERR_INVALID);
    CHECK(strcmp((const char *)hail_buffer_data(detail), "json is NULL") == 0);
    hail_buffer_free(detail);
    CHECK(hail_buffer_data(NULL) == NULL);
    CHECK_IS(hail_buffer_size(NULL), 0);
    hail_buffer_free(NULL);

    /* Nothing was written anywhere. */
    CHECK(!new_loop && !new_config && !new_gateway && !new_backend && !new_recognizer && !buffer && !address);
    CHECK(!new_device && !new_office && !new_app);
    CHECK(port == 9 && word == 9 && number == 9 && size == 9 && octets[0] == 0);
}

static void wrong_values(void)
{
    hail_record record = check_record(1);
    hail_buffer *buffer = NULL, *detail = NULL;
    uint32_t words[257] = {0};
    uint64_t number = 9;
    uint32_t app = 9;
    uint8_t octets[32] = {0};
    char name[300];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;

    CHECK_IS(hail_config_set(config, not_utf8, "4"), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_set(config, "rules", not_utf8), HAIL_ERR_INVALID);
    CHECK(strcmp(hail_config_detail(config), "value is not UTF-8") == 0);
    CHECK_IS(hail_config_dump(config, 0, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_dump(config, 99, &buffer), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_load(config, 99, "/nowhere"), HAIL_ERR_INVALID);
    CHECK_IS(hail_config_load(config, HAIL_ROLE_BACKEND, "/nowhere"), HAIL_ERR_IO);
    CHECK_IS(hail_loop_run(loop, -2), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_set_log(loop, 5, NULL, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_loop_set_log(loop, -1, NULL, NULL), HAIL_ERR_INVALID);

    record.size = 0;
    CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_INVALID);
    record.size = sizeof record - 1;
    CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_INVALID);
    record.size = UINT32_MAX;
    CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_INVALID);
    record.size = sizeof record;
    for (int protocol = 0; protocol < 256; protocol++) {
        record.protocol = (uint8_t)protocol;
        if (protocol != HAIL_PROTOCOL_TCP && protocol != HAIL_PROTOCOL_UDP) {
            CHECK_IS(hail_gateway_report(gateway, &record), HAIL_ERR_INVALID);
            CHECK_IS(hail_gateway_result(gateway, octets, 1, record.protocol, &app), HAIL_ERR_INVALID);
        }
    }
    CHECK_IS(app, 9);

    /* A record of a later version: taken while what is new in it is 0. */
    struct {
        hail_record known;
        uint32_t later;
    } grown = {check_record(1), 0};
    grown.known.size = sizeof grown;
    CHECK_OK(loop, hail_gateway_report(gateway, &grown.known));
    grown.later = 1;
    CHECK_IS(hail_gateway_report(gateway, &grown.known), HAIL_ERR_UNSUPPORTED);

    CHECK_IS(hail_gateway_set_heartbeat_ms(gateway, 0), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_report_features(gateway, 1, words, 257), HAIL_ERR_WORDS);
    CHECK_IS(hail_gateway_report_features(gateway, 1, words, SIZE_MAX), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_feed(gateway, HAIL_LINK_RAW, 0, octets, SIZE_MAX), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_feed(gateway, 4711, 0, octets, sizeof octets), HAIL_ERR_MALFORMED);
    CHECK_IS(hail_gateway_feed(gateway, HAIL_LINK_ETHERNET, 0, octets, 0), HAIL_ERR_MALFORMED);
    CHECK_IS(hail_recognizer_feed(recognizer, HAIL_LINK_ETHERNET, UINT64_MAX, octets, 20), HAIL_ERR_MALFORMED);
    CHECK_IS(hail_gateway_counter(gateway, "no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_gateway_counter(gateway, "recognize.no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_gateway_counter(gateway, not_utf8, &number), HAIL_ERR_INVALID);

    CHECK_IS(hail_backend_enrol(backend, key, name, "g", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, "", "g", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, "n", "", 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, "n", not_utf8, 0, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_enrol(backend, key, "n", "g", 2, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_revoke(backend, key, &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_backend_set_rule(backend, "g", 1, key, 0, &number), HAIL_ERR_PATTERN);
    CHECK_IS(hail_backend_set_rule(backend, not_utf8, 1, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_rule(backend, "g", 1, key, SIZE_MAX, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_set_parameters(backend, "g", 1, words, 0, &number), HAIL_ERR_WORDS);
    CHECK_IS(hail_backend_set_parameters(backend, "g", 1, words, 257, &number), HAIL_ERR_WORDS);
    CHECK_IS(number, 9);

    CHECK_IS(hail_identity_generate("", &buffer, octets, &detail), HAIL_ERR_INVALID);
    CHECK(strstr((const char *)hail_buffer_data(detail), "1 to 64") != NULL);
    hail_buffer_free(detail);
    CHECK_IS(hail_identity_key_id(octets, sizeof octets, octets, NULL), HAIL_ERR_CONFIG);
    CHECK_IS(hail_decode("telegraph", octets, 1, &buffer, NULL), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_encode("gateway", "{", &buffer, NULL), HAIL_ERR_INVALID);
    CHECK(buffer == NULL);
}

/* Values that no message, name or wish can have. */
static void wrong_post(void)
{
    hail_buffer *buffer = NULL;
    uint64_t number = 9, before = 0, after = 0;
    size_t pending = 9;
    uint8_t octets[16] = {0};
    static char body[65537], many[80 * 1001], long_name[66];
    memset(long_name, 'x', sizeof long_name - 1);
    char *end = many;
    for (int at = 0; at <= 1000; at++)
        end += sprintf(end, "%suser:u%d", at == 0 ? "" : ",", at);
    const uint8_t *octets_of = (const uint8_t *)body;
    CHECK_OK(loop, hail_device_counter(device, "put", &before));

    static const char *const no_receivers[] = {"", "anna", "user:", "user:a b", "user:a,", "*", "news:anna", "user:a:b"};
    for (size_t at = 0; at < sizeof no_receivers / sizeof *no_receivers; at++)
        CHECK_IS(hail_device_put(device, no_receivers[at], 1, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, many, 1, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, not_utf8, 1, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 2, 0, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 30 * 86400 + 1, NULL, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, "text\nplain", key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, "text/\xc3\xbc", key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, not_utf8, key, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, NULL, octets_of, 65537, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, NULL, octets_of, SIZE_MAX, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put_wait(device, "user:anna", 1, 0, NULL, key, 1, -2, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_confirm(device, 4711), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_device_subscribe(device, long_name, 1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_subscribe(device, "news", 2, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_keep(device, -1, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_query(device, "anna,,bert", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_query(device, many, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_counter(device, "no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_device_counter(device, "link.no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_OK(loop, hail_device_counter(device, "put", &after));
    CHECK_OK(loop, hail_device_pending(device, &pending));
    CHECK(before == after && pending == 0);

    CHECK_IS(hail_office_add_user(office, "two words", &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_user(office, long_name, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_device(office, "", key, 0, NULL, octets, &buffer, &number), HAIL_ERR_INVALID);
    static const char *const no_urls[] = {"", "office.example", "tls://office.example:7700", "hail://office.example:0",
                                          "hail://0.0.0.0:7700", "hail://h?key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8"};
    for (size_t at = 0; at < sizeof no_urls / sizeof *no_urls; at++) {
        CHECK_IS(hail_office_add_device(office, "anna", key, 0, no_urls[at], octets, &buffer, &number), HAIL_ERR_CONFIG);
        CHECK(strncmp(hail_loop_detail(loop), "url: ", 5) == 0);
    }
    CHECK_IS(hail_office_add_app(office, "news", 8, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_app(office, "a:b", 0, &buffer, &number), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_add_app(office, "clock", 0, &buffer, &number), HAIL_ERR_STATE);
    CHECK_IS(hail_office_drain(office, 2), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_counter(office, "hub.no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_office_counter(office, "nowhere.held", &number), HAIL_ERR_NOT_FOUND);
    CHECK(number == 9 && buffer == NULL && octets[0] == 0);

    /* Messages of an application. */
    hail_message good, wrong;
    char id[HAIL_ID_SIZE] = "";
    memset(&good, 0, sizeof good);
    good.size = sizeof good;
    good.to = "user:anna";
    static const struct {
        const char *id, *to, *content_type;
        size_t body_size;
        uint64_t from, to_second;
        uint32_t flags, ttl_s, reserved, size;
    } wrongs[] = {
        {.size = 8}, {.size = 0xffffffff}, {.reserved = 1}, {.flags = 4}, {.ttl_s = 30 * 86400 + 1}, {.id = ""},
        {.id = "a b"}, {.id = not_utf8}, {.to = "anna"}, {.to = not_utf8}, {.content_type = "a\nb"},
        {.content_type = not_utf8}, {.body_size = 65537}, {.body_size = SIZE_MAX}, {.from = 1}, {.from = 2, .to_second = 1},
        {.from = 1, .to_second = 2}, {.flags = HAIL_MESSAGE_BROADCAST}, {.to = "*", .flags = 2, .from = 2, .to_second = 2},
    };
    for (size_t at = 0; at < sizeof wrongs / sizeof *wrongs; at++) {
        wrong = good;
        wrong.size = wrongs[at].size ? wrongs[at].size : wrong.size;
        wrong.to = wrongs[at].to ? wrongs[at].to : wrong.to;
        wrong.id = wrongs[at].id;
        wrong.content_type = wrongs[at].content_type;
        wrong.body = octets_of;
        wrong.body_size = wrongs[at].body_size;
        wrong.period_start = wrongs[at].from;
        wrong.period_end = wrongs[at].to_second;
        wrong.flags = wrongs[at].flags;
        wrong.ttl_s = wrongs[at].ttl_s;
        wrong.reserved = wrongs[at].reserved;
        CHECK_IS(hail_app_send(app, &wrong, id), HAIL_ERR_INVALID);
    }
    struct {
        hail_message known;
        uint64_t later;
    } grown = {good, 1};
    grown.known.size = sizeof grown;
    CHECK_IS(hail_app_send(app, &grown.known, id), HAIL_ERR_UNSUPPORTED);
    CHECK_IS(hail_app_query(app, "", id), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_query(app, many, id), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_cancel(app, ""), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_confirm(app, 4711), HAIL_ERR_NOT_FOUND);
    CHECK_IS(hail_app_counter(app, "no_such", &number), HAIL_ERR_NOT_FOUND);
    CHECK_OK(loop, hail_app_pending(app, &pending));
    CHECK(pending == 0 && id[0] == 0);
}

/* A port that is taken, a file that is not there: nothing is left behind. */
static void wrong_configuration(void)
{
    const char *address;
    uint16_t port;
    char text[64];
    hail_backend *second = NULL;
    CHECK_OK(loop, hail_backend_address(backend, 0, &address, &port));
    snprintf(text, sizeof text, "tcp://127.0.0.1:%u", (unsigned)port);
    hail_config *wrong = check_config((const char *[]){"listen", text, NULL});
    CHECK_IS(hail_backend_new(loop, wrong, NULL, &second), HAIL_ERR_LISTEN);
    hail_gateway *none = NULL;
    hail_recognizer *nobody = NULL;
    CHECK_IS(hail_config_set(wrong, "backend", "tls://backend.example"), HAIL_OK);
    CHECK_IS(hail_gateway_new(loop, wrong, NULL, &none), HAIL_ERR_CONFIG);
    CHECK(strstr(hail_loop_detail(loop), "pin") != NULL);
    CHECK_IS(hail_config_set(wrong, "rules", "/nowhere/rules.toml"), HAIL_OK);
    CHECK_IS(hail_recognizer_new(loop, wrong, NULL, &nobody), HAIL_ERR_CONFIG);
    CHECK_IS(hail_config_set(wrong, "rules", "none"), HAIL_OK);
    CHECK_IS(hail_recognizer_new(loop, wrong, NULL, &nobody), HAIL_ERR_CONFIG);
    CHECK(!second && !none && !nobody);
    hail_config_free(wrong);

    /* Options of other roles are set and mean nothing; what the role needs is missed. */
    hail_office *no_office = NULL;
    hail_device *no_device = NULL;
    hail_app *no_app = NULL;
    CHECK_IS(hail_device_new(loop, config, NULL, &no_device), HAIL_ERR_CONFIG);
    CHECK(strstr(hail_loop_detail(loop), "credential_file") != NULL);
    CHECK_IS(hail_app_new(loop, config, NULL, &no_app), HAIL_ERR_CONFIG);
    CHECK(strncmp(hail_loop_detail(loop), "office: ", 8) == 0);
    CHECK_OK(loop, hail_office_address(office, 1, &address, &port));
    snprintf(text, sizeof text, "tcp://127.0.0.1:%u", (unsigned)port);
    wrong = check_config((const char *[]){"listen_devices", "hail://127.0.0.1:0", "listen_apps", text, NULL});
    CHECK_IS(hail_office_new(loop, wrong, NULL, &no_office), HAIL_ERR_LISTEN);
    CHECK_IS(hail_config_set(wrong, "listen_apps", "tcp://127.0.0.1:0"), HAIL_OK);
    CHECK_IS(hail_config_set(wrong, "listen_devices", "tcp://127.0.0.1:0"), HAIL_OK);
    CHECK_IS(hail_office_new(loop, wrong, NULL, &no_office), HAIL_ERR_CONFIG);
    CHECK_IS(hail_config_set(wrong, "listen_devices", "hail://127.0.0.1:0"), HAIL_OK);
    CHECK_IS(hail_config_set(wrong, "store", "/nowhere/office.db"), HAIL_OK);
    CHECK(hail_office_new(loop, wrong, NULL, &no_office) < 0);
    CHECK_IS(hail_config_set(wrong, "office", "tcp://192.0.2.1:7701"), HAIL_OK);
    CHECK_IS(hail_config_set(wrong, "app", "news"), HAIL_OK);
    CHECK_IS(hail_config_set(wrong, "app_secret", "s"), HAIL_OK);
    CHECK_IS(hail_app_new(loop, wrong, NULL, &no_app), HAIL_ERR_CONFIG);
    CHECK_IS(hail_config_set(wrong, "credential", "short"), HAIL_OK);
    CHECK_IS(hail_device_new(loop, wrong, NULL, &no_device), HAIL_ERR_CONFIG);
    CHECK(strstr(hail_loop_detail(loop), "short") == NULL);
    CHECK(!no_office && !no_device && !no_app);
    hail_config_free(wrong);
}

/* Calls into the loop from its own callback, and frees there. */
struct inside {
    hail_loop *loop;
    hail_gateway *gateway;
    int calls, frees_loop;
};

static void callback(void *user, int32_t level, const char *text)
{
    struct inside *inside = user;
    hail_config *own = NULL;
    hail_gateway *another = NULL;
    size_t count = 9;
    CHECK(level >= HAIL_LOG_ERROR && level <= HAIL_LOG_DEBUG && strlen(text) > 0 && strchr(text, '\n') == NULL);
    if (inside->calls++ > 0)
        return;
    CHECK_IS(hail_loop_step(inside->loop), HAIL_ERR_REENTRANT);
    CHECK_IS(hail_loop_run(inside->loop, 0), HAIL_ERR_REENTRANT);
    CHECK(hail_loop_next_event(inside->loop) == NULL);
    CHECK(hail_loop_fd(inside->loop) < 0);
    CHECK_IS(hail_loop_timeout_ms(inside->loop), 0);
    CHECK_IS(hail_loop_set_log(inside->loop, HAIL_LOG_OFF, NULL, NULL), HAIL_ERR_REENTRANT);
    CHECK_IS(hail_loop_network_changed(inside->loop), HAIL_ERR_REENTRANT);
    CHECK(strstr(hail_loop_detail(inside->loop), "callback") != NULL);
    CHECK_IS(hail_gateway_pending(inside->gateway, &count), HAIL_ERR_REENTRANT);
    CHECK_IS(hail_gateway_state(inside->gateway), HAIL_ERR_REENTRANT);
    CHECK_IS(hail_config_new(&own), HAIL_OK);
    CHECK_IS(hail_gateway_new(inside->loop, own, NULL, &another), HAIL_ERR_REENTRANT);
    hail_config_free(own);
    CHECK_IS(hail_loop_wake(inside->loop), HAIL_OK);
    CHECK_IS(count, 9);
    hail_gateway_free(inside->gateway);
    if (inside->frees_loop)
        hail_loop_free(inside->loop);
}

static void inside_a_callback(int frees_loop, int by_run)
{
    struct inside inside = {NULL, NULL, 0, frees_loop};
    CHECK_IS(hail_loop_new(&inside.loop), HAIL_OK);
    hail_config *nowhere = check_config((const char *[]){"backend", "tcp://127.0.0.1:1", "rules", "none", NULL});
    CHECK_OK(inside.loop, hail_gateway_new(inside.loop, nowhere, NULL, &inside.gateway));
    hail_gateway *other = NULL;
    CHECK_OK(inside.loop, hail_gateway_new(inside.loop, nowhere, NULL, &other));
    hail_config_free(nowhere);
    CHECK_IS(hail_loop_set_log(inside.loop, HAIL_LOG_DEBUG, callback, &inside), HAIL_OK);
    long long end = check_ms() + 60000;
    while (inside.calls == 0) {
        hail_status status = by_run ? hail_loop_run(inside.loop, 1000) : hail_loop_step(inside.loop);
        CHECK(status == HAIL_OK || status == HAIL_ERR_TIMEOUT);
        if (inside.calls == 0 && !by_run)
            check_wait(inside.loop);
        CHECK(check_ms() < end);
    }
    if (frees_loop) {
        /* The other object is still to be freed, and its calls say that the loop is gone. */
        CHECK_IS(hail_gateway_join(other), HAIL_ERR_INVALID);
        hail_gateway_free(other);
        return;
    }
    /* The freed one tells nothing any more. */
    const hail_event *event;
    while ((event = hail_loop_next_event(inside.loop)) != NULL)
        CHECK(hail_event_source(event) == other);
    hail_gateway_free(other);
    hail_loop_free(inside.loop);
}

/* A child may use nothing, and does the parent no harm. */
static void after_fork(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        size_t count = 9;
        if (hail_loop_step(loop) != HAIL_ERR_INVALID || hail_loop_wake(loop) != HAIL_ERR_INVALID ||
            hail_gateway_pending(gateway, &count) != HAIL_ERR_INVALID || count != 9 || hail_loop_fd(loop) >= 0 ||
            hail_device_put_wait(device, "user:anna", 1, 0, NULL, NULL, 0, 0, NULL) != HAIL_ERR_INVALID ||
            hail_device_is_up(device) != HAIL_ERR_INVALID || hail_app_cancel(app, "17") != HAIL_ERR_INVALID ||
            hail_office_add_user(office, "bert", NULL) != HAIL_ERR_INVALID ||
            hail_loop_next_event(loop) != NULL || strstr(hail_loop_detail(loop), "fork") == NULL)
            _exit(1);
        hail_gateway_free(gateway);
        hail_backend_free(backend);
        hail_app_free(app);
        hail_device_free(device);
        hail_office_free(office);
        hail_loop_free(loop);
        /* A loop of its own works. */
        hail_loop *own = NULL;
        if (hail_loop_new(&own) != HAIL_OK || hail_loop_run(own, 1) != HAIL_ERR_TIMEOUT)
            _exit(2);
        hail_loop_free(own);
        /* What the parent made stays where it is; another program in its place, and nobody counts it as lost. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(3);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_IS(WEXITSTATUS(status), 0);
    CHECK_OK(loop, hail_loop_step(loop));
}

/* An office, a device and an application of it, on the same loop. */
static void post(char *url, size_t size)
{
    uint16_t port = 0;
    hail_buffer *secret = NULL;
    office = office_on(loop, &by_office, NULL, &port);
    credential who = enrol(loop, office, &by_office, "anna", 1);
    device = device_on(loop, &by_device, who.line, NULL);
    hail_buffer_free(who.line);
    CHECK_OK(loop, hail_office_add_app(office, "clock", HAIL_RIGHT_SEND, &secret, NULL));
    office_apps(office, url, size);
    hail_config *own = check_config((const char *[]){"office", url, "app", "clock", NULL});
    CHECK_IS(hail_config_set_bytes(own, "app_secret", hail_buffer_data(secret), hail_buffer_size(secret)), HAIL_OK);
    CHECK_OK(loop, hail_app_new(loop, own, &by_app, &app));
    hail_config_free(own);
    hail_buffer_free(secret);
    turn_until(loop, &by_device, HAIL_EVENT_WELCOME, 1);
    turn_until(loop, &by_app, HAIL_EVENT_LOGGED_IN, 1);
}

int main(void)
{
    uint16_t port;
    char url[64];
    CHECK_IS(hail_loop_new(&loop), HAIL_OK);
    post(url, sizeof url);
    backend = backend_on(loop, "tcp://127.0.0.1:0", NULL, NULL, &port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", (unsigned)port);
    gateway = gateway_to(loop, url, NULL);
    config = check_config((const char *[]){"backend", url, NULL});
    CHECK_OK(loop, hail_recognizer_new(loop, config, NULL, &recognizer));
    null_for_each();
    wrong_values();
    wrong_post();
    wrong_configuration();
    check_await(loop, gateway, HAIL_EVENT_SYNCED);
    after_fork();
    for (int way = 0; way < 4; way++)
        inside_a_callback(way & 1, way >> 1);

    /* All that was refused did no harm, and the loop may go before what was made on it. */
    CHECK_IS(hail_gateway_state(gateway), HAIL_GATEWAY_ACTIVE);
    CHECK(hail_device_is_up(device) == 1);
    check_acknowledged(loop, gateway);
    hail_loop_free(loop);
    CHECK_IS(hail_device_put(device, "user:anna", 1, 0, NULL, NULL, 0, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_device_put_wait(device, "user:anna", 1, 0, NULL, NULL, 0, -1, NULL), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_drain(office, 1), HAIL_ERR_INVALID);
    CHECK_IS(hail_app_cancel(app, "17"), HAIL_ERR_INVALID);
    CHECK_IS(hail_office_address(office, 0, &(const char *){NULL}, &port), HAIL_OK);
    hail_office_free(office);
    hail_device_free(device);
    hail_app_free(app);
    CHECK_IS(hail_gateway_state(gateway), HAIL_ERR_INVALID);
    CHECK_IS(hail_gateway_leave(gateway), HAIL_ERR_INVALID);
    CHECK_IS(hail_recognizer_finish(recognizer), HAIL_ERR_INVALID);
    CHECK_IS(hail_backend_disconnect(backend, 1), HAIL_ERR_INVALID);
    const char *address = NULL;
    CHECK_IS(hail_backend_address(backend, 0, &address, &port), HAIL_OK);
    hail_gateway_free(gateway);
    hail_backend_free(backend);
    hail_recognizer_free(recognizer);
    hail_config_free(config);
    return 0;
}
