//! `mcpmeter stdio`: between a client that speaks only stdio and its server.

use super::Failure;
use crate::{
    pipe::{self, PipeError, Plan, RemoteUrl, Server},
    telemetry,
};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcpmeter_config::{Config, Problems, Source, StoreUrl};
use mcpmeter_observer::Identity;
use std::path::{Path, PathBuf};

/// The longest name, as for routes.
const MAX_NAME: usize = 63;
/// Words that start a server and do not name it.
const LAUNCHERS: [&str; 19] = [
    "npx", "bunx", "uvx", "pipx", "uv", "npm", "pnpm", "yarn", "docker", "podman", "node", "deno", "bun",
    "python", "python3", "run", "exec", "dlx", "tool",
];

/// Names of files and folders that say nothing of the server in them.
const GENERIC: [&str; 9] = ["index", "main", "server", "cli", "app", "dist", "build", "src", "bin"];

/// Runs a stdio server, or forwards to an HTTP server, and records every call. For clients that start their servers
/// themselves: write `mcpmeter stdio --` in front of the command.
#[derive(Debug, Args)]
pub(crate) struct Stdio {
    /// How the server is called in the records [default: from the command or the URL]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,
    /// Whose calls these are
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The organisation of that user
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Where the server is, if it speaks Streamable HTTP
    #[arg(long, value_name = "URL", value_parser = parse_url, conflicts_with = "command", required_unless_present = "command")]
    url: Option<RemoteUrl>,
    /// A header for every request to the URL, "Name: value"; ${NAME} stands for an environment variable
    #[arg(long, value_name = "HEADER", requires = "url", conflicts_with = "command")]
    header: Vec<String>,
    /// A configuration file, of which the sections store, record, privacy and log count
    #[arg(short, long, value_name = "FILE", env = "MCPMETER_CONFIG")]
    config: Option<PathBuf>,
    /// The server's command, without a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Stdio {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let name = match (&self.name, &self.url) {
            (Some(name), _) => name.clone(),
            (None, Some(url)) => tidy(&url.upstream.host),
            (None, None) => name_of(&self.command),
        };
        let (config, folder) = self.load(&name)?;
        telemetry::start(&config, &super::Bar::none());
        let identity = Identity {
            instance_id: name.into(),
            user_id: self.user.map(Into::into),
            organization_id: self.organization.map(Into::into),
        };
        let server = match self.url {
            Some(url) => Server::Remote(url, parse_headers(&self.header, |name| std::env::var(name).ok())?),
            None => Server::Command(self.command),
        };
        match pipe::run(Plan { server, identity, config, folder }) {
            Ok(0) => Ok(()),
            Ok(code) => Err(Failure::exit(code)),
            Err(PipeError::Spawn(error)) => Err(Failure::with_code(error.code(), "", &error)),
            Err(error) => Err(Failure::failed("", &error)),
        }
    }

    /// The configuration, and the folder to be made for the default store.
    fn load(&self, name: &str) -> Result<(Config, Option<PathBuf>), Failure> {
        let failed = |problems: Problems| Failure::config(&problems, false);
        let environment = mcpmeter_config::process_environment();
        if let Some(path) = &self.config {
            let text = mcpmeter_config::read_text(path).map_err(failed)?;
            let source = Source { path: Some(path), text: &text, environment: &environment, flags: &[] };
            return Ok((mcpmeter_config::load_without_routes(&source).map_err(failed)?, None));
        }
        let source = Source { environment: &environment, ..Source::default() };
        let mut config = mcpmeter_config::load_without_routes(&source).map_err(failed)?;
        let is_set = |key: &str| environment.iter().any(|(set, _)| set.eq_ignore_ascii_case(key));
        let folder = state_folder(|name| std::env::var_os(name).map(PathBuf::from));
        let mut uses_folder = false;
        if let (StoreUrl::Sqlite(file), false) = (&mut config.store.url, is_set("MCPMETER_STORE__URL")) {
            *file = folder.join(format!("stdio-{name}.db"));
            uses_folder = true;
        }
        if let (StoreUrl::Postgres(_), false) = (&config.store.url, is_set("MCPMETER_STORE__OUTBOX")) {
            config.store.outbox = folder.join(format!("stdio-{name}-outbox.db"));
            uses_folder = true;
        }
        Ok((config, uses_folder.then_some(folder)))
    }
}

/// Where programs keep what outlives them (XDG Base Directory: a relative path is to be ignored).
fn state_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let given = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = given.unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".local/state"));
    state.join("mcpmeter")
}

/// The server's name from its command: the first word that is neither a flag nor a launcher.
fn name_of(command: &[String]) -> String {
    let stem = |part: &str| {
        Path::new(part).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    };
    let name = |word: &String| {
        let mut parts = word.rsplit('/').map(stem).filter(|part| !part.is_empty());
        let last = parts.next().unwrap_or_default();
        if !GENERIC.contains(&last.as_str()) {
            return last;
        }
        parts.find(|part| !GENERIC.contains(&part.as_str())).unwrap_or(last)
    };
    let is_name = |word: &&String| !word.starts_with('-') && !LAUNCHERS.contains(&name(word).as_str());
    let named = command.iter().find(is_name).or(command.first());
    named.map_or_else(|| "server".to_owned(), |word| tidy(&name(word)))
}

/// What can be part of a file's name.
fn tidy(name: &str) -> String {
    let tidy = |character: char| if is_plain(character) { character } else { '-' };
    let name: String = name.chars().take(MAX_NAME).map(tidy).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "server".to_owned() } else { name.to_owned() }
}

const fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

fn parse_name(name: &str) -> Result<String, String> {
    let valid = name.len() <= MAX_NAME && name.chars().all(is_plain) && tidy(name) == name;
    if valid {
        Ok(name.to_owned())
    } else {
        Err(format!("letters, digits, -, _ and . only, at most {MAX_NAME}"))
    }
}

fn parse_url(url: &str) -> Result<RemoteUrl, String> {
    url.parse().map_err(|error: pipe::RemoteUrlError| error.to_string())
}

/// Headers with variables put in. Neither a value nor a variable's content is ever repeated in an error.
fn parse_headers(
    headers: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<HeaderMap, Failure> {
    let mut parsed = HeaderMap::new();
    for header in headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| Failure::usage("--header wants \"Name: value\""))?;
        let invalid = || Failure::usage(&format!("--header: {name:?} or its value is not valid"));
        let value = expand(value.trim(), &variable).map_err(|missing| {
            Failure::usage(&format!("--header {name}: the environment variable {missing} is not set"))
        })?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| invalid())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        parsed.append(name, value);
    }
    Ok(parsed)
}

/// Puts variables in for `${NAME}`; the name of one that is missing is the error.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        expanded.push_str(before);
        expanded.push_str(&variable(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_after_what_its_launcher_starts() {
        for (command, name) in [
            ("npx -y @modelcontextprotocol/server-everything", "server-everything"),
            ("uvx mcp-server-time --local-timezone=Europe/Berlin", "mcp-server-time"),
            ("/usr/bin/node /opt/srv/dist/index.js", "srv"),
            ("node index.js", "index"),
            ("docker run -i --rm mcp/fetch", "fetch"),
            ("/opt/my server", "my"),
            ("python3", "python3"),
            ("./ä", "server"),
        ] {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(name_of(&words), name, "{command}");
        }
    }

    #[test]
    fn headers_take_variables_and_say_which_one_is_missing() {
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let headers = ["Authorization: Bearer ${TOKEN}".to_owned(), "X-A: a$b{c}".to_owned()];
        let parsed = parse_headers(&headers, variable).expect("valid");
        assert_eq!(parsed["authorization"], "Bearer s3cret");
        assert_eq!(parsed["x-a"], "a$b{c}");
        let missing = parse_headers(&["A: ${NO}".to_owned()], variable).expect_err("missing");
        assert!(format!("{missing:?}").contains("NO is not set"));
        assert!(parse_headers(&["no colon".to_owned()], variable).is_err());
        assert!(parse_headers(&["a b: c".to_owned()], variable).is_err());
    }

    #[test]
    fn state_is_kept_where_the_desktop_wants_it() {
        let folder = |xdg: Option<&str>| {
            let variable = |name: &str| match name {
                "HOME" => Some(PathBuf::from("/home/u")),
                _ => xdg.map(PathBuf::from),
            };
            state_folder(variable).display().to_string()
        };
        assert_eq!(folder(None), "/home/u/.local/state/mcpmeter");
        assert_eq!(folder(Some("/s")), "/s/mcpmeter");
        assert_eq!(folder(Some("relative")), "/home/u/.local/state/mcpmeter");
    }

    #[test]
    fn a_name_is_part_of_a_files_name() {
        assert!(parse_name("my_server-2.x").is_ok());
        for name in ["", "a/b", "../x", "-x", "ä", &"x".repeat(64)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }
}
