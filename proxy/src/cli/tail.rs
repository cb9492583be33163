//! `mcpmeter tail`: the calls as they happen, from the admin port of the running proxy.

use super::{
    ConfigArgs, Failure,
    ask_admin::{AdminArgs, Door},
    block_on,
    filter::FilterArgs,
    line,
};
use clap::Args;
use http_body_util::BodyExt;
use std::io::{self, Write, stdout};

/// Shows each call when it has finished, until interrupted.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// End after this many calls
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
}

impl Tail {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let door = self.admin.find_door(&self.config)?;
        block_on(self.follow(&door))?
    }

    async fn follow(&self, door: &Door) -> Result<(), Failure> {
        let response = door.get("/api/v1/calls/live").await?;
        let mut body = response.into_body();
        let (mut lines, mut shown) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::unreachable("the proxy has gone", &error))?;
            let Ok(data) = frame.into_data() else { continue };
            lines.extend_from_slice(&data);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let call: Vec<u8> = lines.drain(..=end).collect();
                shown +=
                    u64::from(self.show(&call).map_err(|error| Failure::failed("cannot print", &error))?);
                if self.limit.is_some_and(|limit| shown >= limit) {
                    return Ok(());
                }
            }
        }
        Err(Failure::unreachable("the proxy has gone", &io::Error::from(io::ErrorKind::ConnectionAborted)))
    }

    /// Prints a call if it is wanted.
    fn show(&self, call: &[u8]) -> io::Result<bool> {
        let row: serde_json::Value = serde_json::from_slice(call)?;
        if let Some(missed) = row.get("missed") {
            eprintln!("… {missed} calls not shown (too slow)");
            return Ok(false);
        }
        if !self.filter.matches(&row) {
            return Ok(false);
        }
        let mut out = stdout().lock();
        if self.json {
            out.write_all(call)?;
        } else {
            let style = line::Style::for_stream(&stdout());
            writeln!(out, "{}", line::render(&row, style))?;
        }
        out.flush()?;
        Ok(true)
    }
}
