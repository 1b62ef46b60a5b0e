//! The story.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use hailpost::{net::tls::Identity, time::Time};
use serde_json::{Value, json};

use super::{Teller, stage::Stage};
use crate::{
    control,
    data::DataDir,
    failure::{Done, Failure},
    traffic::{self, CAMERA, CAMERA_RULE, Camera},
};

/// Who takes part; the first sees the captures.
pub const GATEWAYS: [&str; 3] = ["kitchen", "hall", "attic"];
const GROUP: &str = "home";
/// A drift that taught nothing, because chance held too few flows back to judge by, is followed by another.
const ROUNDS: u16 = 8;
/// From one training to the next here, so that nobody has to wait a minute for it.
pub const PAUSE: Duration = Duration::from_secs(2);
/// How long a round may take on a busy machine before the next is tried.
const ROUND_PATIENCE: Duration = Duration::from_secs(8);
/// Conversations of the camera as delivered: enough for a history that does not follow a change at once.
const ORDINARY: u16 = 60;
/// Conversations of the camera in one round of drift.
const ROUND: u16 = 48;

/// Where what serves is reached: the same after a restart.
pub struct Ports {
    pub gateways: String,
    pub devices: String,
    pub apps: String,
}

/// Tells it, and makes it happen.
pub fn tell(stage: &mut Stage, data: &DataDir, teller: &mut Teller<'_>) -> Done {
    let ports = arrive(stage, data, teller)?;
    let end = recognise(stage, teller)?;
    let end = share_rule(stage, data, teller, end)?;
    drift(stage, teller, end)?;
    crash(stage, data, teller, &ports)?;
    take_off(stage, data, teller)?;
    super::post::tell(stage, data, teller, &ports)?;
    teller.step("That was all")?;
    teller.say(&format!(
        "{:.0} seconds; everything ran on this machine's loopback and is over now",
        teller.seconds()
    ))
}

fn arrive(stage: &mut Stage, data: &DataDir, teller: &mut Teller<'_>) -> Result<Ports, Failure> {
    teller.step("A back end starts, and three gateways are enrolled")?;
    let free = |scheme: &str| format!("{scheme}://127.0.0.1:0");
    stage.serve(data.path(), &Ports { gateways: free("tls"), devices: free("hail"), apps: free("tcp") })?;
    let mut listening = |scheme: &str| -> Result<String, Failure> {
        let said = stage.wait(0, "backend", "it listens", |said| {
            said["url"].as_str().is_some_and(|url| url.starts_with(scheme))
        })?;
        Ok(said["url"].as_str().unwrap_or_default().to_owned())
    };
    let (url, devices, apps) = (listening("tls")?, listening("hail")?, listening("tcp")?);
    teller.say(&format!("the back end listens; its key is pinned in {}…", url.get(..56).unwrap_or(&url)))?;
    for name in GATEWAYS {
        let identity = Identity::generate(name)?;
        identity.write_private(&stage.file(&format!("{name}.pem")))?;
        let trusted = name == GATEWAYS[0];
        let request = json!({
            "do": "gateway_add", "name": name, "group": GROUP, "key": identity.key_id().to_string(), "trusted": trusted,
        });
        control::ask(data, &request)?;
    }
    teller.say("kitchen, hall and attic have keys of their own and are enrolled in one group; the kitchen's word is trusted")?;
    teller.step("The gateways register")?;
    for name in GATEWAYS {
        stage.gateway(name, &url, &stage.file(&format!("{name}.pem")))?;
    }
    for name in GATEWAYS {
        stage.wait(0, name, "it has all that the back end holds", |said| said["event"] == "synced")?;
        teller.say(&format!(
            "{}, process {}, proved its key over TLS and is in step",
            stage.title(name),
            stage.pid(name)
        ))?;
    }
    let bare = |url: &str| url.split('?').next().unwrap_or(url).to_owned();
    Ok(Ports { gateways: bare(&url), devices: bare(&devices), apps })
}

fn recognise(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<Time, Failure> {
    teller.step(&format!("An evening's traffic flows through {}", stage.title("kitchen")))?;
    let mark = stage.mark();
    let mut evening = traffic::evening();
    let (frames, end) = (evening.len(), evening.end());
    stage.show("kitchen", &mut evening);
    let film = |said: &Value| said["event"] == "result" && names_remote(said, "203.0.113.20");
    let call = |said: &Value| said["event"] == "result" && names_remote(said, "203.0.113.70");
    for name in ["hall", "attic"] {
        stage.wait(mark, name, "it was told where films come from", film)?;
        stage.wait(mark, name, "it was told where calls go", call)?;
    }
    // They end one by one while the capture goes on, the last ones with it.
    let ended = Cell::new(0);
    stage.wait(mark, "kitchen", "every flow is over", |said| {
        ended.set(ended.get() + usize::from(said["event"] == "flow"));
        ended.get() == traffic::EVENING_FLOWS
    })?;
    let mut apps: BTreeMap<String, u32> = BTreeMap::new();
    for flow in stage.said(mark, "kitchen").filter(|said| said["event"] == "flow") {
        *apps.entry(flow["app_name"].as_str().unwrap_or("not known").to_owned()).or_default() += 1;
    }
    teller.say(&format!("{frames} frames; by the rules that ship it tells the flows apart:"))?;
    let list: Vec<String> = apps.iter().map(|(name, flows)| format!("{name} {flows}")).collect();
    teller.detail(&list.join(", "))?;
    for name in ["hall", "attic"] {
        let told = stage.said(mark, name).filter(|said| said["event"] == "result").count();
        teller.say(&format!(
            "{} was told {told} servers that it has never seen, such as 203.0.113.20:443 for films",
            stage.title(name)
        ))?;
    }
    teller.say("flows to those are known there at their first packet")?;
    Ok(end)
}

fn share_rule(
    stage: &mut Stage,
    data: &DataDir,
    teller: &mut Teller<'_>,
    end: Time,
) -> Result<Time, Failure> {
    teller.step("A camera that no rule knows: the operator adds one")?;
    let mark = stage.mark();
    control::ask(data, &json!({ "do": "rule_add", "app": CAMERA, "pattern": CAMERA_RULE, "group": GROUP }))?;
    for name in GATEWAYS {
        stage.wait(mark, name, "the rule came", |said| said["event"] == "rules")?;
    }
    teller.say(&format!("application {CAMERA} is {CAMERA_RULE}; all three gateways have it"))?;
    let mark = stage.mark();
    let mut camera = traffic::later(end, Camera::Quiet, ORDINARY, 1);
    let end = camera.end();
    stage.show("kitchen", &mut camera);
    stage.wait(mark, "kitchen", "it knows the camera", |said| {
        said["event"] == "flow" && said["app"] == CAMERA && said["how"] == "rule"
    })?;
    stage.wait(mark, "backend", "features came", |said| {
        said["event"] == "features" && said["app"] == CAMERA
    })?;
    teller.say(&format!(
        "{} knows the camera now, and reports how its traffic looks from outside",
        stage.title("kitchen")
    ))?;
    Ok(end)
}

fn drift(stage: &mut Stage, teller: &mut Teller<'_>, mut end: Time) -> Done {
    teller.step("The camera is updated and behaves differently: its flows drift")?;
    let mark = stage.mark();
    let accepted =
        |said: &Value| said["event"] == "trained" && said["app"] == CAMERA && said["accepted"] == true;
    let mut told = false;
    for round in 0..ROUNDS {
        let before = stage.mark();
        let mut camera = traffic::later(end, Camera::Pictures(round), ROUND, 2 + round);
        end = camera.end();
        stage.show("kitchen", &mut camera);
        match stage.wait_some(before, "backend", "it trained", ROUND_PATIENCE, accepted)? {
            Some(trained) => {
                if !told {
                    tell_training(stage, teller, mark, &trained)?;
                    told = true;
                }
                for name in GATEWAYS {
                    stage
                        .wait(before, name, "the trained rule came", |said| said["event"] == "parameters")?;
                }
            }
            None if !told => continue,
            // What is in use is as good, by what was held back: it may know other pictures than it was tried with.
            None => {}
        }
        let shown = stage.mark();
        let mut camera = traffic::later(end, Camera::Unknown(round), 4, 40 + round);
        end = camera.end();
        stage.show("kitchen", &mut camera);
        let known = stage.wait_some(shown, "kitchen", "it knows the camera", ROUND_PATIENCE, |said| {
            let by_model = said["app"] == CAMERA && said["how"] == "model";
            said["event"] == "flow" && by_model
        })?;
        if known.is_some() {
            return tell_outcome(stage, teller, shown);
        }
    }
    let tries: Vec<&str> = stage
        .said(mark, "backend")
        .filter(|said| said["event"] == "trained" && said["app"] == CAMERA)
        .filter_map(|said| said["text"].as_str())
        .collect();
    Err(Failure::new(format!("the back end trained no rule that knows the camera: {}", tries.join(" | "))))
}

fn tell_training(stage: &Stage, teller: &mut Teller<'_>, mark: usize, trained: &Value) -> Done {
    let reports = stage
        .said(mark, "backend")
        .filter(|said| said["event"] == "features" && said["app"] == CAMERA)
        .count();
    teller.say(&format!(
        "its flows are far from the camera's history: {} sent {reports} reports of features",
        stage.title("kitchen")
    ))?;
    let score = trained["text"].as_str().unwrap_or_default();
    teller
        .say(&format!("the back end trained a rule on them and judged it by flows it had held back: {score}"))
}

fn tell_outcome(stage: &mut Stage, teller: &mut Teller<'_>, mark: usize) -> Done {
    teller.say("all three gateways were sent the trained rule")?;
    teller.say(&format!(
        "another update changes the greeting: no pattern matches any more, {} still knows the camera by the trained rule",
        stage.title("kitchen")
    ))?;
    stage.wait(mark, "hall", "it was told of the camera's server", |said| {
        said["event"] == "result" && names_remote(said, "203.0.113.82")
    })?;
    teller.say(&format!("and {} was told of the server that it now talks to", stage.title("hall")))
}

fn crash(stage: &mut Stage, data: &DataDir, teller: &mut Teller<'_>, ports: &Ports) -> Done {
    teller.step("The back end is killed, and comes back")?;
    let before = holdings(data)?;
    let mark = stage.mark();
    stage.kill("backend")?;
    teller.say("kill -9: no time to write anything down")?;
    for name in GATEWAYS {
        stage.wait(mark, name, "the link is down", |said| said["event"] == "down")?;
    }
    teller.say("the gateways noticed, go on recognising, and try again by themselves")?;
    let mark = stage.mark();
    stage.serve(data.path(), ports)?;
    for name in GATEWAYS {
        stage.wait(mark, name, "it is back in step", |said| said["event"] == "synced")?;
    }
    let after = holdings(data)?;
    // It may have trained more meanwhile, and must not have lost anything.
    if ["results", "rules", "models"].iter().any(|what| after[what].as_u64() < before[what].as_u64()) {
        return Err(Failure::new(format!("the back end held {before} and holds {after}")));
    }
    teller.say(&format!(
        "it runs again and has lost nothing: {} results, {} added rule, {} trained; all three are back in step",
        before["results"], before["rules"], before["models"]
    ))
}

fn take_off(stage: &mut Stage, data: &DataDir, teller: &mut Teller<'_>) -> Done {
    teller.step("A gateway is taken off")?;
    let mark = stage.mark();
    control::ask(data, &json!({ "do": "gateway_bar", "gateway": "attic" }))?;
    stage.wait(mark, "attic", "it was taken off", |said| said["event"] == "deregistered")?;
    teller.say(&format!("the operator bars {}: it was told so, and is out", stage.title("attic")))?;
    if stage.is_guest("attic") {
        return Ok(());
    }
    stage.wait(mark, "attic", "it is refused", |said| said["event"] == "refused")?;
    teller.say("it tried again and was refused")?;
    control::ask(data, &json!({ "do": "gateway_allow", "gateway": "attic" }))?;
    let mark = stage.mark();
    stage.wait(mark, "attic", "it is back", |said| said["event"] == "synced")?;
    teller.say("the operator allows it again: it came back by itself, and in step")
}

/// What the back end holds.
fn holdings(data: &DataDir) -> Result<Value, Failure> {
    let status = control::ask(data, &json!({ "do": "status" }))?;
    let group =
        status["groups"].as_array().and_then(|groups| groups.iter().find(|group| group["name"] == GROUP));
    let group = group.ok_or_else(|| Failure::new("the back end has lost its group"))?;
    Ok(json!({ "results": group["results"], "rules": group["rules"], "models": group["models"] }))
}

/// Whether that is the remote end.
fn names_remote(said: &Value, address: &str) -> bool {
    said["remote_address"] == address
}
