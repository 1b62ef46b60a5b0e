//! `hailpost serve --roles balancer`: tells devices at which broker to log in, and nothing else.

use std::time::Instant;

use hailpost::{
    config::Config,
    net::{
        Loop, NodeId, open_office, reload_balancer,
        url::{LinkKey, Scheme, Url},
    },
    node::BalancerNode,
};
use serde_json::{Map, Value, json};

use super::{broker::identity, desk::members, notify::Notify, raise_descriptors};
use crate::{
    control,
    data::DataDir,
    events::Printer,
    failure::{Done, Failure},
    signals::{Inbox, Word},
    terminal::Out,
};

/// What serves.
struct Door {
    net: Loop,
    node: NodeId,
    /// Where devices ask, and where brokers report.
    devices: Vec<String>,
    inner: Vec<String>,
    begun: Instant,
}

/// Runs a balancer until it is stopped. `again` reads its configuration anew.
pub fn run(
    config: &Config,
    dir: &DataDir,
    again: &dyn Fn() -> Result<Config, Failure>,
    out: &mut Out,
) -> Done {
    dir.make()?;
    let Some(_lock) = dir.lock()? else {
        return Err(Failure::new(format!(
            "another process serves {}: stop that first",
            dir.path().display()
        )));
    };
    raise_descriptors(2 * config.number("max_brokers"));
    let pin = identity(config, dir, "balancer")?.key_id();
    let mut net = Loop::new()?;
    let (node, addresses) = open_office(&mut net, config)?;
    let key = net.get::<BalancerNode>(node).map(BalancerNode::server_key).map(LinkKey);
    let url = |scheme, address: std::net::SocketAddr| {
        let (pins, key) = match scheme {
            Scheme::Tls => (vec![pin], None),
            _ => (Vec::new(), key),
        };
        let host = hailpost::net::url::Host::Address(address.ip());
        Url { scheme, host, port: address.port(), pins, key }.to_string()
    };
    let devices: Vec<String> = addresses.devices.iter().map(|at| url(Scheme::Ask, *at)).collect();
    let inner: Vec<String> = addresses.inner.iter().map(|at| url(Scheme::Tls, *at)).collect();
    let mut door = Door { net, node, devices, inner, begun: Instant::now() };
    let inbox = Inbox::open(&door.net)?;
    control::listen(&dir.socket(), &inbox.speaker(&door.net))?;
    let paint = out.paint();
    for (whom, urls) in [("devices", &door.devices), ("brokers", &door.inner)] {
        for url in urls {
            out.either(
                &json!({ "event": "listening", "url": url, "for": whom }),
                format!("{} {} for {whom}", paint.good("listening"), paint.strong(url)),
            )?;
        }
    }
    out.flush()?;
    out.detach();
    let served = door.turn(&inbox, again, out);
    // A socket that nobody answers would only mislead.
    let _ = std::fs::remove_file(dir.socket());
    served
}

impl Door {
    /// Turns the loop until a stop is asked for, or nobody reads any more.
    fn turn(&mut self, inbox: &Inbox, again: &dyn Fn() -> Result<Config, Failure>, out: &mut Out) -> Done {
        let mut notify = Notify::open();
        notify.say("READY=1");
        let printer = Printer::new(Default::default());
        let mut is_over = false;
        loop {
            self.net.wait(notify.limit())?;
            notify.live();
            let mut printed = Ok(());
            while let Some((_, event)) = self.net.next_event() {
                printed = printed.and_then(|()| printer.print(&event, out));
            }
            while let Some(word) = inbox.next() {
                match word {
                    Word::Stop => {
                        notify.say("STOPPING=1");
                        is_over = true;
                    }
                    // Who asked may have gone.
                    Word::Request(request, reply) => drop(reply.send(self.answer(&request))),
                    Word::Reload => {
                        let read = again().and_then(|config| {
                            reload_balancer(&mut self.net, self.node, &config).map_err(Failure::from)
                        });
                        let text = match read {
                            Ok(()) => "the keys of brokers are read again".to_owned(),
                            Err(failure) => format!("the configuration stays as it is: {}", failure.text),
                        };
                        printed = printed.and_then(|()| printer.note("reloaded", &text, out));
                    }
                }
            }
            if is_over {
                let text = "devices go on at their brokers";
                printed = printed.and_then(|()| printer.note("stopped", text, out));
            }
            if printed.and_then(|()| out.flush()).is_err() {
                out.silence();
                is_over = true;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, request: &Value) -> Value {
        match request.get("do").and_then(Value::as_str) {
            Some("status") => self.status(),
            Some(other) => control::refusal(&Failure::usage(format!(
                "this is a balancer, which keeps nothing: ask the hub for {other}"
            ))),
            None => control::refusal(&Failure::usage("the request has no text \"do\"")),
        }
    }

    fn status(&self) -> Value {
        let node: &BalancerNode =
            self.net.get(self.node).expect("the node is on the loop for as long as we are");
        let (brokers, given_out) = node.balancer().brokers();
        let counters: Map<String, Value> = [
            ("asks", members(node.balancer().asks().list())),
            ("brokers", members(node.balancer().counters().list())),
            ("balancer", members(node.counters().list())),
            ("driver", members(self.net.counters().list())),
        ]
        .map(|(part, counters)| (part.to_owned(), Value::Object(counters)))
        .into_iter()
        .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "serving": true,
            "uptime": self.begun.elapsed().as_secs(),
            "waiting": 0,
            "balancer": {
                "devices": self.devices,
                "inner": self.inner,
                "brokers": brokers,
                "given_out": given_out,
            },
            "counters": counters,
        })
    }
}
