//! `portcullis explain`: what becomes of a request.

use std::{fmt::Write, net::IpAddr, process::ExitCode};

use clap::Args;
use http::Method;
use portcullis::{
    explain::{Explained, Question, Url, explain},
    gateway::folder_of,
    rehearse::{load_file, rehearse},
};

use super::{ConfigFile, FAILED, OutputFormat, UNUSABLE, complain, print, print_json, show};

/// What `explain` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Method, such as GET
    method: Method,
    /// `/path`, or a whole URL, whose scheme and port choose the listener
    #[arg(value_parser = clap::value_parser!(Url))]
    url: Url,
    /// Header field, `Name: value`; repeatable
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<(String, String)>,
    /// Address that the request comes from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,
    /// Listener that it comes to [default: the one that the URL points at]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// How it is told
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    file: ConfigFile,
}

/// `Name: value`.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
    http::HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a field"))?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

impl Arguments {
    /// Explains; the exit code is 0 whatever becomes of the request.
    pub fn run(self) -> ExitCode {
        let file = match self.file.find() {
            Ok(file) => file,
            Err(code) => return code,
        };
        let loaded = load_file(&file);
        let Some(model) = loaded.model.clone() else { return show::refused(&loaded) };
        let runtime = match rehearse(model, &folder_of(&file)) {
            Ok(runtime) => runtime,
            Err(problems) => {
                problems.iter().for_each(|problem| complain(&problem.to_string()));
                return ExitCode::from(FAILED);
            }
        };
        let Arguments { method, url, headers: fields, client, listener, .. } = self;
        let written = loaded.listeners_written();
        let question = Question { method, url, fields, client, listener, written };
        let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(executor) => executor,
            Err(error) => {
                complain(&error.to_string());
                return ExitCode::from(FAILED);
            }
        };
        match executor.block_on(explain(&runtime, &question)) {
            Ok(explained) => {
                match self.format {
                    OutputFormat::Json => print_json(&explained),
                    OutputFormat::Text => print(&text(&question, &explained)),
                }
                ExitCode::SUCCESS
            }
            Err(problem) => {
                complain(&problem);
                ExitCode::from(UNUSABLE)
            }
        }
    }
}

/// The explanation for people.
fn text(question: &Question, explained: &Explained) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", question.method, question.url);
    let _ = writeln!(out, "  comes to listener {}, from {}", explained.listener, explained.client);
    if !explained.path.is_empty() {
        let _ = writeln!(out, "  the path that rules see is {}", explained.path);
    }
    if let Some(route) = &explained.route {
        let explicit = if route.priority_is_explicit { "written" } else { "made from the rule" };
        let _ = writeln!(out, "  route {} takes it ({})", route.name, route.written);
        let _ = writeln!(out, "    because {}", route.rule);
        let _ = writeln!(out, "    priority {} ({explicit})", route.priority);
        for (name, value) in &route.parameters {
            let _ = writeln!(out, "    {{{name}}} is {value}");
        }
    }
    for other in &explained.others {
        let _ = writeln!(out, "  not route {} (priority {}): {}", other.name, other.priority, other.reason);
    }
    if let Some(refused) = &explained.refused {
        let _ = writeln!(out, "  {refused}");
    }
    for step in &explained.middlewares {
        let _ = writeln!(out, "  middleware {} ({}) {}", step.name, step.kind, step.outcome);
        let Some(given) = &step.answer else { continue };
        for (name, value) in &given.fields {
            let _ = writeln!(out, "      {name}: {value}");
        }
        // A page would hide the rest.
        if let Some(body) = given.body.as_ref().filter(|body| body.chars().count() <= 200) {
            body.lines().for_each(|line| {
                let _ = writeln!(out, "      | {line}");
            });
        }
    }
    if let Some(target) = &explained.target {
        let why = target.why.as_ref().map(|why| format!(", {why}"));
        let (name, path, why) = (&target.name, &target.path, why.unwrap_or_default());
        let _ = writeln!(out, "  goes to {name}{why}, with the path {path}");
        if let Some(strategy) = &target.strategy {
            let _ = writeln!(out, "    one of these, by {strategy}:");
        }
        for endpoint in &target.endpoints {
            let (url, weight, host) = (&endpoint.url, endpoint.weight, &endpoint.host);
            let _ = writeln!(out, "      {url} (weight {weight}, Host: {host})");
        }
    }
    out
}
