//! The header, the symbol map and the tables of the documents are made from the source. This test fails when one of
//! them differs, and with HAILPOST_BLESS=1 writes it anew.
#![cfg(all(feature = "ffi", feature = "gateway", feature = "backend", feature = "post"))]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use hailpost::{
    config::{OPTIONS, OptionKind, Role},
    gateway::{BackendCounters, GatewayCounters},
    link::{AnswererCounters, AskerCounters, ClientCounters, ServerCounters},
    net::DriverCounters,
    node::{BalancerNodeCounters, EventKind, Field, OfficeCounters},
    post::{
        app::AppCounters,
        apps::AppsCounters,
        balancer::{BalancerCounters, UplinkCounters},
        broker::BrokerCounters,
        brokers::BrokersCounters,
        device::DeviceCounters,
        hub::HubCounters,
        rooms::RoomsCounters,
    },
    recognize,
    status::{Retry, Status},
};

/// Modules of the C face, in the order in which the header has them.
const MODULES: [&str; 15] = [
    "status",
    "log",
    "codec",
    "config",
    "event_loop",
    "record",
    "event",
    "gateway",
    "recognizer",
    "backend",
    "training",
    "device",
    "office",
    "app",
    "identity",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Holds a file against what it should be, or writes it.
fn settle(path: &str, wanted: &str) {
    let file = root(path);
    if std::env::var_os("HAILPOST_BLESS").is_some() {
        return fs::write(file, wanted).unwrap();
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(found.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        found == wanted,
        "{path} differs from the source at line {line}: HAILPOST_BLESS=1 cargo test --test header"
    );
}

/// A document comment as plain text: ``[`crate::status::Status`]`` is `Status`.
fn plain(help: &str) -> String {
    let mut text = String::new();
    let mut rest = help.trim();
    while let Some((before, after)) = rest.split_once("[`") {
        let (link, after) = after.split_once("`]").expect("a link ends");
        text += before;
        text += link.rsplit("::").next().expect("a path has an end");
        rest = after;
    }
    (text + rest).replace('`', "")
}

fn define(out: &mut String, help: &str, name: &str, number: impl std::fmt::Display) {
    writeln!(out, "#define {name} {number} /**< {} */", plain(help)).unwrap();
}

fn defines() -> String {
    let mut out = String::new();
    for status in Status::ALL {
        let retry = match (status, status.retry()) {
            (Status::Ok, _) => "",
            (_, Retry::Never) => " Retry: never.",
            (_, Retry::Later) => " Retry: later.",
            (_, Retry::AfterConfig) => " Retry: after a change.",
        };
        let number = if *status == Status::Ok { "0".to_owned() } else { format!("({})", status.number()) };
        define(&mut out, &format!("{}.{retry}", status.text()), status.constant(), number);
    }
    out.push('\n');
    for kind in EventKind::ALL {
        define(&mut out, kind.help(), &constant("EVENT", kind.name()), *kind as u32);
    }
    out.push('\n');
    for field in Field::ALL {
        define(&mut out, field.help(), &constant("FIELD", field.name()), *field as u32);
    }
    out.trim_end().to_owned()
}

fn constant(class: &str, name: &str) -> String {
    format!("HAIL_{class}_{}", name.to_uppercase())
}

/// The header, from one source file after the other: cbindgen has an order of its own among kinds of items only.
fn header() -> String {
    let contract = fs::read_to_string(root("src/ffi/contract.txt")).unwrap();
    let comment: String =
        contract.lines().map(|line| format!(" * {line}").trim_end().to_owned() + "\n").collect();
    let mut config = cbindgen::Config::from_file(root("cbindgen.toml")).unwrap();
    config.header = Some(format!(
        "/*\n{comment} *\n * SPDX-License-Identifier: MIT OR Apache-2.0\n * Generated from the source: see tests/header.rs.\n */"
    ));
    config.after_includes = Some(format!("\n{}", defines()));
    let builder = cbindgen::Builder::new().with_config(config);
    let sources = MODULES.iter().map(|module| root(&format!("src/ffi/{module}.rs")));
    let bindings = sources.fold(builder, |builder, source| builder.with_src(source)).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).unwrap()
}

/// The functions that a header declares.
fn functions(header: &str) -> Vec<&str> {
    let mut names: Vec<&str> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '*', '/', '#']) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("hail_"))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn the_header_is_that_of_the_source() {
    let header = header();
    settle("include/hailpost.h", &header);
    for kind in EventKind::ALL {
        let line = format!("#define {} {} /**< ", constant("EVENT", kind.name()), *kind as u32);
        assert!(header.contains(&line), "{line}");
    }
    for field in Field::ALL {
        assert!(header.contains(&format!(
            "#define {} {} /**< ",
            constant("FIELD", field.name()),
            *field as u32
        )));
    }
    for status in Status::ALL.iter().skip(1) {
        assert!(header.contains(&format!("#define {} ({}) /**< ", status.constant(), status.number())));
    }
    for wrong in ["[`", "Option<", "crate::"] {
        assert!(!header.contains(wrong), "{wrong:?}");
    }
}

#[test]
fn the_map_lists_what_the_header_declares() {
    let header = header();
    let names = functions(&header);
    // The source is asked too, so that a function which cbindgen passes over is noticed.
    let mut exported = 0;
    for entry in fs::read_dir(root("src/ffi")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        exported += text.matches("#[unsafe(no_mangle)]").count();
    }
    assert_eq!(names.len(), exported);
    assert!(names.len() < 120, "STYLE section 3");
    let list: String = names.iter().map(|name| format!("        {name};\n")).collect();
    settle("include/hailpost.map", &format!("HAIL_0.1 {{\n    global:\n{list}    local:\n        *;\n}};\n"));
}

#[test]
fn the_tables_of_the_documents_are_those_of_the_source() {
    let mut text = "# Options\n\nEvery option of `hail_config_set`, of Python's keyword arguments, of the program and of a TOML \
         file. Made from the table in `src/config.rs`.\n"
        .to_owned();
    for (role, title) in [
        (Role::Gateway, "Of a gateway and a recogniser"),
        (Role::Backend, "Of a back end"),
        (Role::Office, "Of a post office"),
        (Role::Device, "Of a device"),
        (Role::App, "Of an application"),
    ] {
        write!(text, "\n## {title}\n\n| option | takes | default | |\n| --- | --- | --- | --- |\n").unwrap();
        for option in OPTIONS.iter().filter(|option| option.is_for(role)) {
            let takes = match option.kind {
                OptionKind::Millis => "milliseconds".to_owned(),
                OptionKind::Number(from, to) => format!("{from} to {to}"),
                OptionKind::Switch => "true or false".to_owned(),
                OptionKind::Text => "text".to_owned(),
                OptionKind::Path => "path".to_owned(),
                OptionKind::Urls => "URLs".to_owned(),
                OptionKind::Networks => "networks".to_owned(),
                OptionKind::Secret => "octets, never shown".to_owned(),
            };
            let default = option.default.replace(',', ", ");
            let default = if default.is_empty() { default } else { format!("`{default}`") };
            writeln!(text, "| `{}` | {takes} | {default} | {} |", option.name, option.help).unwrap();
        }
    }
    settle("docs/options.md", &text);

    let mut text =
        "# Counters\n\nWhat `hail_gateway_counter`, `hail_recognizer_counter`, `hail_backend_counter`, \
         `hail_device_counter`, `hail_office_counter`, `hail_app_counter` and `hail_loop_counter` know by name. A gateway's recognition has \
         the prefix `recognize.`; the link of a gateway or a device, and that of a back end, `link.`; a device's asking of a balancer `balancer.`; the link, the hub, the \
         applications' connections, the brokers and the other rooms of an office `link.`, `hub.`, `apps.`, `brokers.` and `rooms.`; what a broker counted \
         of its hub `broker.`, of its balancer `balancer.`. Made from the source.\n"
            .to_owned();
    let lists: [(&str, Vec<_>); 19] = [
        ("a gateway", GatewayCounters::default().list().collect()),
        ("a recogniser", recognize::Counters::default().list().collect()),
        ("a back end", BackendCounters::default().list().collect()),
        ("a loop", DriverCounters::default().list().collect()),
        ("a device", DeviceCounters::default().list().collect()),
        ("a device's or gateway's link", ClientCounters::default().list().collect()),
        ("a device that asks a balancer", AskerCounters::default().list().collect()),
        ("a balancer", BalancerCounters::default().list().collect()),
        ("a balancer that devices ask", AnswererCounters::default().list().collect()),
        ("a balancer's connections of brokers", BalancerNodeCounters::default().list().collect()),
        ("a broker that reports to a balancer", UplinkCounters::default().list().collect()),
        ("a post office", OfficeCounters::default().list().collect()),
        ("a post office's or back end's link", ServerCounters::default().list().collect()),
        ("a post office's hub", HubCounters::default().list().collect()),
        ("a post office's connections of applications", AppsCounters::default().list().collect()),
        ("a post office's brokers, at the hub", BrokersCounters::default().list().collect()),
        ("a post office's other rooms", RoomsCounters::default().list().collect()),
        ("a broker's hub, at the broker", BrokerCounters::default().list().collect()),
        ("an application of a post office", AppCounters::default().list().collect()),
    ];
    for (title, list) in lists {
        write!(text, "\n## Of {title}\n\n| counter | counts |\n| --- | --- |\n").unwrap();
        for (name, help, _) in list {
            writeln!(text, "| `{name}` | {help} |").unwrap();
        }
    }
    settle("docs/counters.md", &text);
}

/// Python's half of that table is held by its own tests.
#[test]
fn the_scenarios_that_the_page_names_are_in_the_c_tests() {
    let page = fs::read_to_string(root("docs/c-api.md")).unwrap();
    let named = page.lines().filter_map(|line| {
        let (program, rest) = line.split_once("| `")?.1.split_once(".c` `")?;
        Some((program, rest.split_once('`')?.0))
    });
    let mut count = 0;
    for (program, function) in named {
        let source = fs::read_to_string(root(&format!("ctests/{program}.c"))).unwrap();
        let is_defined = |line: &str| line.contains(&format!(" {function}(")) && !line.starts_with(' ');
        assert!(source.lines().any(is_defined), "{program}.c has no {function}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
