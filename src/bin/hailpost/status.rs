//! `hailpost status`

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    control,
    data::{DataArgs, DataDir},
    failure::{Done, Failure},
    terminal::{Out, Paint, Table, grouped},
};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Shows what a back end holds and does.
///
/// Groups with their results, rules and models; every gateway and whether it is here; and what was counted. With --watch on a
/// terminal it refreshes in place, with rates, until Ctrl-C. Works too while no back end serves: it shows what the store
/// holds.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  hailpost status --data office --watch
  hailpost status --json | jq .counters.backend.reports")]
pub struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Look again every second; with --json an object each time
    #[arg(long)]
    watch: bool,
}

pub fn run(args: &Args, out: &mut Out) -> Done {
    let dir = args.data.dir()?;
    if args.watch && (out.is_json() || io::stdout().is_terminal()) {
        return watch(&dir, out);
    }
    let status = control::ask(&dir, &json!({ "do": "status" }))?;
    if out.is_json() {
        return Ok(out.json(&status)?);
    }
    Ok(View { status: &status, before: None, rows: usize::MAX }
        .lines(out.paint())
        .iter()
        .try_for_each(|line| out.line(line))?)
}

fn watch(dir: &DataDir, out: &mut Out) -> Done {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
    }
    let full = !out.is_json();
    if full {
        // The other screen, so that what was on this one is there again afterwards.
        out.raw(b"\x1b[?1049h\x1b[?25l")?;
    }
    let done = look_again(dir, &stop, out);
    if full {
        out.raw(b"\x1b[?25h\x1b[?1049l")?;
    }
    done
}

fn look_again(dir: &DataDir, stop: &AtomicBool, out: &mut Out) -> Done {
    let mut before: Option<(Instant, Value)> = None;
    while !stop.load(Ordering::Relaxed) {
        let status = control::ask_running(dir, &json!({ "do": "status" }))?;
        let now = Instant::now();
        match (&status, out.is_json()) {
            (Some(status), true) => out.json(status)?,
            (None, true) => out.json(&json!({ "serving": false }))?,
            (status, false) => {
                let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(24, |size| size.ws_row.into());
                let lines = match status {
                    Some(status) => {
                        let before = before.as_ref().map(|(at, status)| (now - *at, status));
                        View { status, before, rows }.lines(out.paint())
                    }
                    None => vec![format!("no back end serves {}; waiting for one", dir.path().display())],
                };
                // Each line clears what it does not fill, so that nothing flickers.
                let shown: Vec<String> = lines
                    .iter()
                    .take(rows.saturating_sub(1))
                    .map(|line| format!("{line}\x1b[K\r\n"))
                    .collect();
                out.raw(format!("\x1b[H{}\x1b[J", shown.concat()).as_bytes())?;
            }
        }
        out.flush()?;
        before = status.map(|status| (now, status));
        while now.elapsed() < EVERY && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// What is shown of a status.
struct View<'a> {
    status: &'a Value,
    /// How long ago the last one was, and what it said.
    before: Option<(Duration, &'a Value)>,
    /// Lines there is room for.
    rows: usize,
}

impl View<'_> {
    fn lines(&self, paint: Paint) -> Vec<String> {
        let mut lines = vec![self.title(paint)];
        lines.extend(
            self.status["listen"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|url| url.as_str().map(|url| paint.faint(format!("  {url}")))),
        );
        let (office, broker) = (&self.status["office"], &self.status["broker"]);
        let balancer = &self.status["balancer"];
        for urls in [
            &office["devices"],
            &office["apps"],
            &office["inner"],
            &broker["devices"],
            &balancer["devices"],
            &balancer["inner"],
        ] {
            lines.extend(
                list(urls).iter().filter_map(Value::as_str).map(|url| paint.faint(format!("  {url}"))),
            );
        }
        lines.push(String::new());
        if !broker.is_null() {
            lines.extend(self.broker(paint));
            return lines;
        }
        if !balancer.is_null() {
            lines.extend(self.balancer(paint));
            return lines;
        }
        lines.extend(self.office(paint));
        lines.extend(self.groups(paint));
        lines.push(String::new());
        lines.extend(self.counters(paint));
        lines.push(String::new());
        let room = self.rows.saturating_sub(lines.len() + 2);
        lines.extend(self.gateways(paint, room));
        lines
    }

    fn title(&self, paint: Paint) -> String {
        let state = match self.status["serving"] == true {
            true => paint.good(format!("serving for {}", duration(number(&self.status["uptime"])))),
            false => paint.faint("not serving: this is what the store holds"),
        };
        let waiting = match number(&self.status["waiting"]) {
            0 => String::new(),
            count => format!(" · {} wait for the disk", grouped(count)),
        };
        let version = self.status["version"].as_str().unwrap_or_default();
        format!("{} {version} · {state}{waiting}", paint.strong("hailpost"))
    }

    /// The post office: who is there, what waits, what is under way.
    fn office(&self, paint: Paint) -> Vec<String> {
        let office = &self.status["office"];
        if office.is_null() {
            return Vec::new();
        }
        let mut table = Table::new(["post office", "now"]);
        for (name, member) in [
            ("devices here", "sessions"),
            ("with something under way", "active"),
            ("messages that wait", "waiting"),
        ] {
            table.row([name.to_owned(), grouped(number(&office[member]))]);
        }
        let brokers = list(&office["brokers"]);
        if !brokers.is_empty() {
            table.row([
                "logged in, brokers and applications among them".to_owned(),
                grouped(number(&office["online"])),
            ]);
        }
        let mut lines = table.lines(paint);
        if !brokers.is_empty() {
            lines.push(String::new());
            let mut table = Table::new(["broker", "devices here", "state", "key"]);
            for broker in brokers {
                let text = |name: &str| broker[name].as_str().unwrap_or_default();
                let state = match broker["up"] == true {
                    true => paint.good("● connected"),
                    false => paint.bad("○ away"),
                };
                let key = text("key").chars().take(8).collect();
                table.row([text("name").to_owned(), grouped(number(&broker["sessions"])), state, key]);
            }
            lines.extend(table.lines(paint));
        }
        let rooms = list(&office["rooms"]);
        if !rooms.is_empty() {
            lines.push(String::new());
            let mut table = Table::new(["room", "messages that wait for it", "takes them", "hands over"]);
            let state = |is_so: bool| if is_so { paint.good("● yes") } else { paint.bad("○ no") };
            for room in rooms {
                let name = room["name"].as_str().unwrap_or_default().to_owned();
                let waiting = grouped(number(&room["waiting"]));
                table.row([name, waiting, state(room["up"] == true), state(room["here"] == true)]);
            }
            lines.extend(table.lines(paint));
        }
        lines.push(String::new());
        lines
    }

    /// A balancer.
    fn balancer(&self, paint: Paint) -> Vec<String> {
        let balancer = &self.status["balancer"];
        let mut table = Table::new(["balancer", "now"]);
        for (name, member) in
            [("brokers that report", "brokers"), ("of these, given to devices", "given_out")]
        {
            table.row([name.to_owned(), grouped(number(&balancer[member]))]);
        }
        let mut lines = table.lines(paint);
        lines.push(String::new());
        let mut table = Table::new(["counted", "in all"]);
        for (name, part, counter) in [
            ("devices that asked", "asks", "asks"),
            ("given a broker", "asks", "given"),
            ("told that there is none", "asks", "none"),
            ("asked for a cookie first", "asks", "cookies"),
            ("reports of brokers", "brokers", "reports"),
            ("brokers that fell silent", "brokers", "silent"),
            ("brokers that drained", "brokers", "drained"),
        ] {
            table.row([name.to_owned(), grouped(number(&self.status["counters"][part][counter]))]);
        }
        lines.extend(table.lines(paint));
        lines
    }

    /// A broker apart from its hub.
    fn broker(&self, paint: Paint) -> Vec<String> {
        let broker = &self.status["broker"];
        let state = match broker["registered"] == true {
            true => paint.good("● there"),
            false => paint.bad("○ away; tried again"),
        };
        let mut table = Table::new(["broker", "now"]);
        table.row(["hub".to_owned(), state]);
        for (name, member) in [("devices here", "sessions"), ("with something under way", "active")] {
            table.row([name.to_owned(), grouped(number(&broker[member]))]);
        }
        let mut lines = table.lines(paint);
        lines.push(String::new());
        let mut table = Table::new(["counted", "in all"]);
        for (name, part, counter) in [
            ("logins", "link", "sessions"),
            ("of these, by ticket", "link", "resumed"),
            ("heartbeats", "link", "heartbeats"),
            ("handed to the hub", "broker", "up"),
            ("handed to devices", "broker", "down"),
            ("times that the hub was lost", "broker", "lost"),
        ] {
            table.row([name.to_owned(), grouped(number(&self.status["counters"][part][counter]))]);
        }
        lines.extend(table.lines(paint));
        lines
    }

    fn groups(&self, paint: Paint) -> Vec<String> {
        let mut table = Table::new(["group", "gateways here", "results", "rules", "models"]);
        for group in list(&self.status["groups"]) {
            let cell = |name: &str| grouped(number(&group[name]));
            let name = paint.strong(group["name"].as_str().unwrap_or_default());
            table.row([name, cell("gateways"), cell("results"), cell("rules"), cell("models")]);
        }
        let common = grouped(number(&self.status["common_rules"]));
        table.row([paint.faint("(all groups)"), "-".into(), "-".into(), common, "-".into()]);
        table.lines(paint)
    }

    fn counters(&self, paint: Paint) -> Vec<String> {
        let shown = [
            ("messages", &["backend", "messages"]),
            ("reports", &["backend", "reports"]),
            ("features", &["backend", "features"]),
            ("results told", &["backend", "results_sent"]),
            ("rules told", &["backend", "rules_sent"]),
            ("registrations", &["backend", "registrations"]),
            ("refused", &["backend", "refused"]),
            ("lost", &["backend", "gone"]),
            ("malformed", &["backend", "malformed"]),
            ("TLS handshakes", &["tls", "handshakes"]),
        ];
        let of_office = [
            ("logins", &["link", "sessions"]),
            ("of these, by ticket", &["link", "resumed"]),
            ("heartbeats", &["link", "heartbeats"]),
            ("letters taken", &["hub", "messages"]),
            ("letters delivered", &["hub", "delivered"]),
            ("letters confirmed", &["hub", "confirmed"]),
            ("letters gone stale", &["hub", "expired"]),
        ];
        let of_office = of_office.iter().filter(|_| !self.status["office"].is_null());
        let mut table = Table::new(["counted", "in all", "a second"]);
        for (name, [part, counter]) in shown.iter().chain(of_office) {
            let value = number(&self.status["counters"][*part][*counter]);
            let rate = self.before.map(|(since, before)| {
                let last = number(&before["counters"][*part][*counter]);
                value.saturating_sub(last) as f64 / since.as_secs_f64()
            });
            let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
            table.row([(*name).to_owned(), grouped(value), rate]);
        }
        table.lines(paint)
    }

    fn gateways(&self, paint: Paint, room: usize) -> Vec<String> {
        let gateways = list(&self.status["gateways"]);
        if gateways.is_empty() {
            return vec![
                "no gateway is enrolled: `hailpost gateway add NAME --group G --key KEY`".to_owned(),
            ];
        }
        let mut table = Table::new(["gateway", "group", "state"]);
        for gateway in gateways.iter().take(room.max(1)) {
            let text = |name: &str| gateway[name].as_str().unwrap_or_default();
            let state = match text("state") {
                "registered" => paint.good("● registered"),
                "barred" => paint.bad("○ barred"),
                other => paint.faint(format!("○ {other}")),
            };
            table.row([text("name").to_owned(), text("group").to_owned(), state]);
        }
        let mut lines = table.lines(paint);
        if let Some(more) = gateways.len().checked_sub(room.max(1)).filter(|more| *more > 0) {
            lines.push(paint.faint(format!("and {} more", grouped(more as u64))));
        }
        lines
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], |list| list)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
