//! `mcpmeter body`: what was asked and answered in one call, if that is kept and the key is there.

use super::{
    ConfigArgs, Failure, block_on,
    calls::{open_reader, read_failure},
};
use crate::bodies;
use clap::Args;
use mcpmeter_journal::{OpenBodyError, SealedBody};
use mcpmeter_observer::CallId;
use serde_json::json;
use uuid::Uuid;

/// Reads the store directly, so the proxy need not run. The bodies go to stdout, a line each, the request first; what is
/// known about them to stderr. With PostgreSQL a body is there some seconds after its call.
#[derive(Debug, Args)]
pub(crate) struct Body {
    #[command(flatten)]
    config: ConfigArgs,
    /// The call: its id, as `mcpmeter calls --json` shows it
    #[arg(value_name = "CALL_ID")]
    call: Uuid,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Body {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let reader = open_reader(&config)?;
        let found = block_on(Box::pin(reader.bodies(CallId(self.call))))?;
        let found = found.map_err(|error| read_failure(&error))?;
        if found.is_empty() {
            return Err(Failure::found(1, &self.nothing(&config)));
        }
        let keys = bodies::keys(&config.record);
        if keys.is_empty() {
            return Err(Failure::usage(&format!(
                "the bodies of this call are encrypted with the key {}, and there is no record.bodies_key",
                found[0].key_id
            )));
        }
        let opened =
            found.iter().map(|body| Ok((body, keys.open(body)?))).collect::<Result<Vec<_>, OpenBodyError>>();
        let opened =
            opened.map_err(|error| Failure::failed("cannot decrypt the bodies of this call", &error))?;
        if self.json {
            println!("{}", self.to_json(&opened));
            return Ok(());
        }
        for (body, text) in opened {
            let (side, bytes) = (body.side.as_str(), body.bytes);
            let kept =
                if body.is_cut { format!(", of which {} are kept", text.len()) } else { String::new() };
            eprintln!("{side}: {bytes} bytes{kept}");
            println!("{text}");
        }
        Ok(())
    }

    /// Why there may be nothing.
    fn nothing(&self, config: &mcpmeter_config::Config) -> String {
        let days = config.record.bodies_retention_days;
        let off = config.routes.iter().all(|route| route.bodies == mcpmeter_config::Bodies::Off);
        let why = match off {
            true => "record.bodies is \"off\" in this configuration".to_owned(),
            false => {
                format!("its route keeps none of such calls, it is older than {days} days, or it was erased")
            }
        };
        format!("no body is kept of the call {}: {why}", self.call)
    }

    fn to_json(&self, opened: &[(&SealedBody, String)]) -> serde_json::Value {
        let bodies = opened.iter().map(|(body, text)| {
            json!({ "side": body.side.as_str(), "bytes": body.bytes, "cut": body.is_cut,
                    "key_id": body.key_id, "text": text })
        });
        json!({ "call_id": self.call, "bodies": bodies.collect::<Vec<_>>() })
    }
}
