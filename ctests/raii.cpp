// The C++ header: both ends over TLS with ownership and exceptions, a post office, and messages as JSON.
#include <hailpost.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1); \
        } \
    } while (0)

static hail::event await(hail::loop &loop, const void *source, std::uint32_t kind) {
    auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < end) {
        while (hail::event event = loop.next_event())
            if (event.kind() == kind && event.source() == source)
                return event;
        loop.run(1000);
    }
    std::fprintf(stderr, "no event %s\n", hail_event_name(kind));
    std::exit(1);
}

template <class Call> static hail_status thrown(Call call) {
    try {
        call();
    } catch (const hail::error &error) {
        CHECK(error.what()[0] != '\0');
        return error.status();
    }
    return HAIL_OK;
}

// A post office with a device and an application of it.
static void post() {
    hail::loop loop;
    hail::office office(loop, {{"listen_devices", "hail://127.0.0.1:0"}, {"listen_apps", "tcp://127.0.0.1:0"}});
    office.add_user("anna");
    await(loop, office.get(), HAIL_EVENT_DURABLE);
    auto enrolled = office.add_device("anna", {1, 2, 3});
    while (await(loop, office.get(), HAIL_EVENT_DURABLE).u64(HAIL_FIELD_TICKET) < enrolled.ticket)
        ;
    CHECK(enrolled.line.text().substr(0, 17) == "hail://127.0.0.1:" && office.key() != hail::key_id{});
    hail::device device(loop, hail::config().set_bytes("credential", enrolled.line.data(), enrolled.line.size()));
    await(loop, device.get(), HAIL_EVENT_WELCOME);
    CHECK(device.is_up());
    auto [number, stored] = device.put_wait("user:anna", "to myself", 0);
    CHECK(stored && number != 0 && device.pending() == 1);
    hail::event told = await(loop, device.get(), HAIL_EVENT_MESSAGE);
    auto [body, size] = told.bytes(HAIL_FIELD_BODY);
    CHECK(std::string_view(reinterpret_cast<const char *>(body), size) == "to myself");
    device.confirm(told.u64(HAIL_FIELD_SEQUENCE));
    await(loop, device.get(), HAIL_EVENT_CONFIRMED);

    auto [secret, ticket] = office.add_app("clock", HAIL_RIGHT_SEND | HAIL_RIGHT_QUERY);
    auto [address, port] = office.address(1);
    hail::config options{{"office", "tcp://" + address + ":" + std::to_string(port)}, {"app", "clock"}};
    hail::app clock(loop, options.set_bytes("app_secret", secret.data(), secret.size()));
    std::string id = clock.send("user:anna", "noon");
    CHECK(await(loop, clock.get(), HAIL_EVENT_ANSWERED).text(HAIL_FIELD_ID) == id);
    clock.cancel(id);
    await(loop, clock.get(), HAIL_EVENT_ANSWERED);
    CHECK(clock.query("anna") != id && clock.counter("logins") == 1);
    CHECK(await(loop, clock.get(), HAIL_EVENT_PRESENCE).u64(HAIL_FIELD_ONLINE) == 1);
    std::uint64_t request = device.subscribe("clock");
    CHECK(await(loop, device.get(), HAIL_EVENT_ANSWER).u64(HAIL_FIELD_REQUEST) == request);
    CHECK(device.keep() > request && device.query("anna") > request);
    CHECK(thrown([&] { device.put("nobody", ""); }) == HAIL_ERR_INVALID);
    CHECK(thrown([&] { office.add_app("clock", 0); }) == HAIL_ERR_STATE);
    CHECK(thrown([&] { clock.confirm(4711); }) == HAIL_ERR_NOT_FOUND);
    office.drain();
    office.revoke_device(enrolled.session_id);
    await(loop, device.get(), HAIL_EVENT_REFUSED);
    CHECK(!device.is_up() && office.counter("apps.connections") == 1 && ticket > enrolled.ticket);
    device.close();
}

int main() {
    hail::identity server("backend"), friendly("gateway");
    hail::loop loop;
    hail::config options{{"listen", "tls://127.0.0.1:0"}, {"agreement", "1"}};
    options.set_bytes("identity_pem", server.pem.data(), server.pem.size());
    hail::backend backend(loop, options);
    backend.enrol(friendly.id, "gateway", "home", HAIL_ENROL_TRUSTED);

    auto [address, port] = backend.address();
    hail::config remote{{"backend", "tls://" + address + ":" + std::to_string(port) + "?pin=" + server.pin()}};
    remote.set_bytes("identity_pem", friendly.pem.data(), friendly.pem.size());
    int user = 0;
    hail::gateway gateway(loop, remote, &user);
    CHECK(await(loop, gateway.get(), HAIL_EVENT_SYNCED).user() == &user);
    CHECK(gateway.state() == HAIL_GATEWAY_ACTIVE && backend.gateways().size() == 1);

    gateway.report(hail::record(7, "192.168.1.2", 40000, "203.0.113.9", 443, HAIL_PROTOCOL_TCP));
    hail::event told = await(loop, backend.get(), HAIL_EVENT_IDENTIFIED);
    CHECK(told.record()->app == 7 && told.text(HAIL_FIELD_REMOTE_ADDRESS) == "203.0.113.9");
    await(loop, gateway.get(), HAIL_EVENT_ACKNOWLEDGED);
    CHECK(gateway.pending() == 0);

    backend.set_rule("", 22, "^SSH-2\\.0-");
    CHECK(await(loop, gateway.get(), HAIL_EVENT_RULES).u64(HAIL_FIELD_COUNT) == 1);
    CHECK(gateway.list("rules") == R"([{"app":22,"pattern":"^SSH-2\\.0-"}])");
    CHECK(backend.list("rules") == gateway.list("rules") && backend.list("models", "home") == "[]");
    std::uint64_t ticket = backend.set_parameters("home", 7, {1, 2, 3});
    while (await(loop, backend.get(), HAIL_EVENT_DURABLE).u64(HAIL_FIELD_TICKET) < ticket)
        ;
    CHECK(backend.parameters("home", 7).size() == 3 && backend.parameters("home", 8).empty());
    CHECK(thrown([&] { backend.roll_back("home", 7); }) == HAIL_ERR_NOT_FOUND);
    CHECK(thrown([&] { backend.hold("home", 7); }) == HAIL_ERR_NOT_FOUND);
    CHECK(thrown([&] { backend.offer("home", 7, {1, 2, 3}); }) == HAIL_ERR_WORDS);
    CHECK(backend.samples("home", 7) == "[]" && backend.pending() == 0 && loop.counter("accepted") == 1);
    backend.remove_rule("", 22);
    backend.deregister(friendly.id);
    await(loop, gateway.get(), HAIL_EVENT_DEREGISTERED);

    CHECK(thrown([&] { backend.disconnect(4711); }) == HAIL_ERR_NOT_FOUND);
    CHECK(thrown([&] { hail::config{{"no_such", "1"}}; }) == HAIL_ERR_CONFIG);
    CHECK(thrown([&] { hail::identity(""); }) == HAIL_ERR_INVALID);
    CHECK(thrown([&] { hail::gateway(loop, hail::config{}); }) == HAIL_ERR_CONFIG);
    CHECK(thrown([&] { hail::decode("gateway", nullptr, 0); }) == HAIL_ERR_MALFORMED);

    post();
    hail::gateway moved = std::move(gateway);
    CHECK(moved.state() > 0);
    hail::recognizer recognizer(loop, hail::config{});
    const std::uint8_t noise[20] = {0};
    CHECK(recognizer.feed(HAIL_LINK_RAW, 1, noise, sizeof noise) == HAIL_ERR_MALFORMED);
    recognizer.finish();
    CHECK(recognizer.counter("malformed") == 1);
    return 0;
}
