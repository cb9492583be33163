//! What a play has shown: the messages that arrived at both ends, and how long the lines had to wait.

use crate::{
    inbox::{Ending, Message},
    script::{Actor, client, upstream},
};
use std::time::Duration;

/// What arrived at both ends of a play.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// What each actor received: a client its answers in order, an exchange of the server its request.
    pub(crate) heard: Vec<(Actor, Message)>,
    /// Requests that came and were in no line of the play.
    pub(crate) untaken: usize,
    /// How long each waiting line waited behind the last sending.
    pub(crate) waits: Vec<Duration>,
}

impl Transcript {
    /// What the server received in an exchange.
    pub(crate) fn request(&self, name: &'static str) -> &Message {
        self.last(&upstream(name))
    }

    /// The last that a client received.
    pub(crate) fn answer(&self, name: &'static str) -> &Message {
        self.last(&client(name))
    }

    fn last(&self, actor: &Actor) -> &Message {
        let found = self.heard.iter().rfind(|(known, _)| known == actor);
        found.map(|(_, message)| message).expect("it is in the play")
    }

    /// All that clients received.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Message> {
        let is_client = |actor: &Actor| matches!(actor, Actor::Client(_));
        self.heard.iter().filter(move |(actor, _)| is_client(actor)).map(|(_, message)| message)
    }
}

impl Message {
    /// The lines of its head, without their ends; a byte beyond ASCII is read as Latin-1.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text: String = self.head.iter().copied().map(char::from).collect();
        text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The values of a header.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let lines = self.lines();
        let pairs = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let of_name = pairs.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let lines = self.lines();
        lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a response")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message shortened, for whoever reads why a case failed.
    pub(crate) fn brief(&self) -> String {
        let short = |text: String| text.chars().take(200).collect::<String>();
        let head: Vec<_> = self.lines().into_iter().map(short).collect();
        let body = short(self.body.escape_ascii().to_string());
        let ending = match self.ending {
            Ending::Open => "open",
            Ending::Complete => "complete",
            Ending::Cut => "cut",
        };
        let trailers = self.trailers.escape_ascii();
        format!("{ending}, {} bytes\n{}\n\n{body}\n{trailers}", self.body.len(), head.join("\n"))
    }
}
