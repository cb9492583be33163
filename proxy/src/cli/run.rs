//! `mcpmeter run`: the first minute. One stdio server behind HTTP, without a file to write first.

use super::{Failure, panel};
use crate::{app::App, reload::ConfigOrigin, telemetry};
use clap::Args;
use mcpmeter_config::StoreUrl;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs one stdio server behind HTTP until Ctrl-C, and shows each call. Other settings come from the environment.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What to call the server [default: made from the command]
    #[arg(long)]
    name: Option<String>,
    /// Where MCP clients connect [overrides proxy.listen]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where metrics and probes are served [overrides admin.listen]
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// Where calls are stored [overrides store.url; default: ~/.local/state/mcpmeter/calls.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The program that speaks stdio, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Run {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let origin = self.origin()?;
        check_program(&self.command[0])?;
        let config = origin.load().map_err(|problems| Failure::config(&problems, false))?;
        make_room(&config.store.url)?;
        let bar = panel::Bar::new();
        telemetry::start(&config, &bar);
        let app = App::build(config, origin).map_err(|error| Failure::failed("", &error))?;
        panel::greet(&app).map_err(|error| Failure::failed("", &error))?;
        panel::follow(&app.live(), app.pulse(), bar.clone());
        let ended = app.run().map_err(|error| Failure::failed("", &error));
        bar.clear();
        ended
    }

    fn origin(&self) -> Result<ConfigOrigin, Failure> {
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.command));
        // A JSON string is a TOML string.
        let quoted = |text: &str| serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f");
        let words: Vec<_> = self.command.iter().map(|word| quoted(word)).collect();
        let mut text = format!("[[route]]\nname = {}\ncommand = [{}]\n", quoted(&name), words.join(", "));
        // The panel says what goes on.
        text.push_str("[log]\nlevel = \"warn\"\n");
        if self.store.is_none() {
            let url = format!("sqlite:{}", default_store()?.display());
            text.push_str(&format!("[store]\nurl = {}\n", quoted(&url)));
        }
        let flags = [
            ("--listen", "proxy.listen", &self.listen),
            ("--admin-listen", "admin.listen", &self.admin_listen),
            ("--store", "store.url", &self.store),
        ];
        let given = |(name, key, value): (_, _, &Option<String>)| Some((name, key, value.clone()?));
        let flags = flags.into_iter().filter_map(given).collect();
        Ok(ConfigOrigin { text: Some(text), flags, ..ConfigOrigin::default() })
    }
}

/// Programs are started when they are needed; one that is not there is told at once.
fn check_program(program: &str) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = if program.contains('/') {
        Path::new(program).exists()
    } else {
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    let place = if program.contains('/') { "" } else { " on the PATH" };
    if is_there { Ok(()) } else { Err(Failure::usage(&format!("there is no program `{program}`{place}"))) }
}

/// Below `$XDG_STATE_HOME` (XDG Base Directory Specification).
fn default_store() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let none = "neither XDG_STATE_HOME nor HOME is set; say with --store sqlite:FILE where to keep calls";
    Ok(base.ok_or_else(|| Failure::usage(none))?.join("mcpmeter/calls.db"))
}

/// Makes the folder of the default store, for this user only. Any other is its owner's business.
fn make_room(store: &StoreUrl) -> Result<(), Failure> {
    let StoreUrl::Sqlite(file) = store else { return Ok(()) };
    let Some(folder) = file.parent().filter(|_| default_store().is_ok_and(|own| own == *file)) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|error| Failure::failed(&format!("cannot make {}", folder.display()), &error))
}

/// Programs that run others, and words that say nothing about which.
const RUNNERS: [&str; 19] = [
    "npx", "npm", "exec", "bunx", "bun", "pnpm", "dlx", "uvx", "uv", "pipx", "run", "tool", "node", "deno",
    "python", "python3", "docker", "sh", "bash",
];
/// Folders and files that every package has.
const COMMON: [&str; 7] = ["index", "main", "cli", "server", "dist", "build", "src"];

/// A name for a server: that of its package or file, without what all servers have in theirs.
fn name_of(command: &[String]) -> String {
    let mut words = command.iter().filter(|word| !word.starts_with('-'));
    let mut word = words.next().map_or("", String::as_str);
    while RUNNERS.contains(&word.rsplit('/').next().unwrap_or(word)) {
        match words.next() {
            Some(next) => word = next,
            None => break,
        }
    }
    // `@scope/name@version`, `name==version`, `/path/name/dist/index.js`
    let last = word.rfind('/').map_or(0, |slash| slash + 1);
    // An `@` at the beginning is a scope's.
    let unversioned = match word[last..].rfind('@') {
        Some(at) if last + at > 0 => &word[..last + at],
        _ => word,
    };
    let unversioned = unversioned.split("==").next().unwrap_or(unversioned);
    let stem = |part: &str| part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    let part =
        unversioned.rsplit('/').map(stem).find(|part| !part.is_empty() && !COMMON.contains(&part.as_str()));
    let part = part.unwrap_or_default();
    let bare = ["mcp-server-", "server-", "mcp-"].iter().find_map(|prefix| part.strip_prefix(prefix));
    let bare = bare.unwrap_or(&part);
    let bare = ["-mcp-server", "-server", "-mcp"]
        .iter()
        .find_map(|suffix| bare.strip_suffix(suffix))
        .unwrap_or(bare);
    let valid = |character: char| {
        if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' }
    };
    let name: String = bare.chars().map(valid).take(63).collect();
    match name.trim_matches(['-', '_']) {
        "" => "server".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_by_its_package_or_file() {
        for (command, name) in [
            ("npx -y @modelcontextprotocol/server-everything", "everything"),
            ("npx -y @modelcontextprotocol/server-filesystem@2026.8.31 /srv", "filesystem"),
            ("uvx mcp-server-git==1.2 --repository .", "git"),
            ("uv run weather.py", "weather"),
            ("node /opt/node_modules/@scope/server-memory/dist/index.js stdio", "memory"),
            ("npx @scope", "scope"),
            ("/usr/bin/python3 -m my_server", "my_server"),
            ("./github-mcp-server", "github"),
            ("docker run -i --rm mcp/time", "time"),
            ("npx", "npx"),
            ("./", "server"),
            ("Ünï", "n"),
        ] {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(name_of(&words), name, "{command}");
        }
    }
}
