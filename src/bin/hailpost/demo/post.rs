//! The second act: messages for who is not there.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, process::Command};

use serde_json::{Value, json};

use super::{
    Teller,
    stage::{Stage, this_program},
    story::Ports,
};
use crate::{
    control,
    data::DataDir,
    failure::{Done, Failure},
};

/// What is written while she sleeps.
const LETTERS: [&str; 3] = ["the train is late", "we wait at the station", "bring an umbrella"];
/// Her phone, among the processes.
const PHONE: &str = "phone";

/// Tells it, and makes it happen.
pub fn tell(stage: &mut Stage, data: &DataDir, teller: &mut Teller<'_>, ports: &Ports) -> Done {
    teller.step("Anna and Ben are users of the post office, each with a phone")?;
    for user in ["anna", "ben"] {
        control::ask(data, &json!({ "do": "user_add", "name": user }))?;
        let enrolled = control::ask(data, &json!({ "do": "device_add", "user": user }))?;
        let line = enrolled["line"].as_str().unwrap_or_default();
        let about = |error: std::io::Error| Failure::new(format!("cannot write {user}'s line: {error}"));
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(stage.file(user)).map_err(about)?;
        writeln!(file, "{line}").map_err(about)?;
    }
    stage.listen_as(PHONE, &stage.file("anna"))?;
    stage.wait(0, PHONE, "it is logged in", |said| said["event"] == "logged_in")?;
    teller.say(&format!(
        "Anna's phone, process {}, has logged in over encrypted datagrams (hail://)",
        stage.pid(PHONE)
    ))?;
    let mark = stage.mark();
    teller.say(&format!("Ben writes: the office has it, {}", send(stage, "are you there?")?))?;
    stage.wait(mark, PHONE, "the message came", |said| said["body"] == "are you there?")?;
    stage.wait(mark, PHONE, "it is confirmed", |said| said["event"] == "confirmed")?;
    teller.say("it is on her phone, confirmed, and gone from the office")?;

    teller.step("Anna's phone sleeps, and Ben goes on writing")?;
    stage.kill(PHONE)?;
    for letter in LETTERS {
        let state = send(stage, letter)?;
        teller.say(&format!("\"{letter}\": {state}"))?;
    }

    teller.step("The post office is killed, and comes back")?;
    stage.kill("backend")?;
    teller.say("kill -9, once more")?;
    let mark = stage.mark();
    stage.serve(data.path(), ports)?;
    stage.wait(mark, "backend", "it listens", |said| said["for"] == "devices")?;

    teller.step("Anna's phone wakes, on another address")?;
    let mark = stage.mark();
    stage.listen_as(PHONE, &stage.file("anna"))?;
    for letter in LETTERS {
        stage.wait(mark, PHONE, "what was written came", |said| said["body"] == letter)?;
    }
    let said: Vec<&Value> =
        stage.said(mark, PHONE).filter(|said| said["event"] == "message").map(|said| &said["body"]).collect();
    if said != LETTERS {
        return Err(Failure::new(format!("the phone was told {said:?} and not {LETTERS:?}")));
    }
    let resumed = stage.said(mark, PHONE).any(|said| said["resumed"] == true);
    let how = if resumed { "by the ticket of its last session, without a handshake" } else { "again" };
    teller.say(&format!("it logged in {how}; all {} messages came, once each and in order", LETTERS.len()))
}

/// Sends as Ben; what the office did with it.
fn send(stage: &Stage, letter: &str) -> Result<String, Failure> {
    let mut command: Command = this_program()?;
    command.args(["send", "user:anna", letter, "--json", "--credential"]).arg(stage.file("ben"));
    let about = |error: std::io::Error| Failure::new(format!("cannot run `hailpost send`: {error}"));
    let output = command.output().map_err(about)?;
    if !output.status.success() {
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(said["state"].as_str().unwrap_or("?").to_owned())
}
