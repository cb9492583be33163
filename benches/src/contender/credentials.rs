//! Who the load's one caller is, for each way in which mcpmeter can know it.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{ContenderError, Identity, Store};

/// A year from whenever, in seconds since 1970: long after every run.
const EXPIRES_AT: u64 = 4_000_000_000;

/// What the configuration says of it, and what the caller sends.
#[derive(Debug, Default)]
pub(super) struct Presented {
    /// The table `[route.identity]`.
    pub(super) identity: String,
    /// Header lines.
    pub(super) lines: String,
}

/// Makes what is needed, with its files in `directory`. Of a key, [`make_key`] makes the secret.
pub(super) fn present(identity: Option<Identity>, directory: &Path) -> Result<Presented, ContenderError> {
    let Some(identity) = identity else { return Ok(Presented::default()) };
    let table = |keys: &str| format!("[route.identity]\nmode = \"{}\"\n{keys}", identity.word());
    Ok(match identity {
        Identity::None | Identity::Passthrough => Presented {
            identity: table(""),
            lines: "Authorization: Bearer a-key-of-the-server\r\n".to_owned(),
        },
        Identity::ApiKey => Presented { identity: table(""), lines: String::new() },
        Identity::Header => Presented {
            identity: table("user_header = \"X-User\"\nnetworks = [\"127.0.0.1\"]\n"),
            lines: "X-User: u_1\r\n".to_owned(),
        },
        Identity::Jwt => {
            let file = directory.join("jwks.json");
            let (keys, token) = sign_token();
            fs::write(&file, keys)?;
            let keys = "issuer = \"bench\"\naudience = [\"bench\"]\njwks";
            Presented {
                identity: table(&format!("{keys} = \"{}\"\n", file.display())),
                lines: format!("Authorization: Bearer {token}\r\n"),
            }
        }
    })
}

/// A key set, and a token that was made with its key.
fn sign_token() -> (String, String) {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
    let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key that was just made");
    let public = encode(key.public_key().as_ref());
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"1","x":"{public}"}}]}}"#);
    let head = encode(br#"{"alg":"EdDSA","typ":"JWT","kid":"1"}"#);
    let claims = format!(r#"{{"iss":"bench","aud":"bench","sub":"u_1","exp":{EXPIRES_AT}}}"#);
    let text = format!("{head}.{}", encode(claims.as_bytes()));
    let signature = encode(key.sign(text.as_bytes()).as_ref());
    (keys, format!("{text}.{signature}"))
}

/// A key in the store of the configuration in `directory`, as the header line that presents it.
pub(super) fn make_key(program: &Path, directory: &Path, store: Store) -> Result<String, ContenderError> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["-c", "mcpmeter.toml"])
            .current_dir(directory)
            .env_remove("DATABASE_URL");
        command.output()
    };
    if store == Store::Postgres {
        // A key can only be put where there are tables.
        run(&["migrate"])?;
    }
    let output = run(&["keys", "create", "--user", "u_1", "--json"])?;
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(std::io::Error::other)?;
    let secret = made["secret"].as_str().ok_or_else(|| std::io::Error::other("no secret was made"))?;
    Ok(format!("Authorization: Bearer {secret}\r\n"))
}
