//! `portcullis show`: a configuration in each of its three forms.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, ValueEnum};
use portcullis::{
    gateway::folder_of,
    load::Loaded,
    logging::colours,
    rehearse::{load_file, rehearse},
};
use portcullis_proxy::{
    forward::split::{Place, Split},
    runtime::{Route, Runtime, Target},
};

use super::{ConfigFile, FAILED, check, complain, print, print_json};

/// The forms of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As it stands in the file, as JSON; variables are not put in
    Written,
    /// What it means: every default filled in, every reference resolved
    Model,
    /// What runs: for each listener its routes in the order in which they are asked
    Runtime,
}

/// What `show` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which form
    form: Form,
    #[command(flatten)]
    file: ConfigFile,
}

impl Arguments {
    /// Prints it.
    pub fn run(&self) -> ExitCode {
        let file = match self.file.find() {
            Ok(file) => file,
            Err(code) => return code,
        };
        let loaded = load_file(&file);
        if self.form == Form::Written && !loaded.unreadable {
            print_json(&loaded.written);
            return ExitCode::SUCCESS;
        }
        let Some(model) = &loaded.model else { return refused(&loaded) };
        if self.form == Form::Model {
            print_json(&**model);
            return ExitCode::SUCCESS;
        }
        match rehearse(model.clone(), &folder_of(&file)) {
            Ok(runtime) => {
                print(&describe(&runtime));
                ExitCode::SUCCESS
            }
            Err(problems) => {
                problems.iter().for_each(|problem| complain(&problem.to_string()));
                ExitCode::from(FAILED)
            }
        }
    }
}

/// A configuration that is refused has no model: its findings, on standard error.
pub fn refused(loaded: &Loaded) -> ExitCode {
    // Nobody is left to be told when standard error is gone.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        loaded.text(colours(&std::io::stderr())).as_bytes(),
    );
    check::code(loaded)
}

/// The compiled form, for people.
fn describe(runtime: &Runtime) -> String {
    let mut out = String::new();
    for (name, listener) in runtime.listeners.iter() {
        let tls = if listener.tls.is_some() { ", TLS" } else { "" };
        let _ = writeln!(out, "listener {name} on {}{tls}", listener.settings.address);
        for asked in &listener.middlewares {
            let _ = writeln!(out, "  middleware {}", asked.name);
        }
        let mut routes: Vec<(i64, usize, &Route)> = runtime
            .model
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.listeners.is_empty() || route.listeners.contains(name))
            .filter(|_| **name != *portcullis_proxy::runtime::compile::ADMIN)
            .filter_map(|(index, model)| {
                runtime.routes.get(index).map(|route| (model.priority, index, &**route))
            })
            .collect();
        routes.sort_by_key(|(priority, index, _)| (std::cmp::Reverse(*priority), *index));
        for (priority, index, route) in routes {
            let rule =
                runtime.model.routes.get(index).map(|route| route.rule.to_string()).unwrap_or_default();
            let _ = writeln!(out, "  {priority:>6}  {}: {rule}", route.name);
            for asked in &route.middlewares {
                let _ = writeln!(out, "            middleware {}", asked.name);
            }
            let _ = writeln!(out, "            to {}", target(&route.target));
        }
    }
    for (name, service) in runtime.services.iter() {
        let _ = writeln!(out, "service {name}");
        for (endpoint, upstream) in service.endpoints.iter().zip(&service.upstreams) {
            let (url, weight, host) = (&endpoint.url, endpoint.weight, &upstream.host);
            let _ = writeln!(out, "  {url} weight {weight}, its own Host is {host}");
        }
    }
    out
}

/// Where a route leads, in words.
pub fn target(target: &Target) -> String {
    match target {
        Target::Service(service) => format!("service {}", service.name),
        Target::Split(split) => format!("by split, {}", shares(split)),
        Target::Builtin(name, _) => format!("built-in service @{name}"),
        Target::Unusable(reason) => format!("nowhere, it answers 503: {reason}"),
    }
}

/// Services of a split and what chance gives them.
fn shares(split: &Split) -> String {
    let share = |place: &Place| {
        let percent = (place.share * 1e6).round() / 1e4;
        format!("{percent}% to service {}", place.service.name)
    };
    split.places().iter().map(share).collect::<Vec<_>>().join(", ")
}
