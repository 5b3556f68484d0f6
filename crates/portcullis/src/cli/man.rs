//! `portcullis man`: the manual page, from the same definition as the parser.

use std::process::ExitCode;

use super::{FAILED, complain, print};

/// Prints the page: that of the program, followed by those of its subcommands.
pub fn run(command: clap::Command) -> ExitCode {
    let mut page = Vec::new();
    let mut built = command;
    built.build();
    let subcommands: Vec<clap::Command> = built.get_subcommands().cloned().collect();
    let mut rendered = clap_mangen::Man::new(built).render(&mut page);
    for subcommand in subcommands {
        let man = clap_mangen::Man::new(subcommand);
        rendered = rendered
            .and_then(|()| man.render_name_section(&mut page))
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page));
    }
    match rendered {
        Ok(()) => {
            print(&String::from_utf8_lossy(&page));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("cannot make the page: {error}"));
            ExitCode::from(FAILED)
        }
    }
}
