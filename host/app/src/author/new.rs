//! `witgate plugin new`: a project that builds and passes its tests at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use witgate_guest_project::{Language, PluginKind, template};

/// Start a policy or strategy of your own: a project that builds and passes its tests at once
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct NewArgs {
    /// The plug-in's name, and its folder's: letters, digits and, for a policy, `-`
    name: String,
    /// A policy: it decides who may do what (default)
    #[arg(long, conflicts_with = "strategy")]
    policy: bool,
    /// A strategy: it yields the credential of clusters whose `authProvider` is its name
    #[arg(long)]
    strategy: bool,
    /// What it is written in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Lang,
    /// The folder in which the project's folder is made
    #[arg(long = "in", value_name = "DIR", default_value = ".")]
    parent: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Lang {
    /// Rust, with the SDK: the smallest and fastest components; needs rustup
    Rust,
    /// JavaScript, on QuickJS inside the component; needs Node.js 20
    Js,
    /// Python, on CPython inside the component; needs Python 3.10
    Python,
    /// C, policies only; needs Zig as its compiler, which Python's pip has too
    C,
    /// Go, policies only; needs Go 1.24, which Python's pip has too
    Go,
}

/// Writes the project and says what to type next.
///
/// # Errors
/// When the name cannot be, or something stands where the project would.
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let (kind, what) = if args.strategy { (PluginKind::Strategy, "strategy") } else { (PluginKind::Policy, "policy") };
    let language = match args.lang {
        Lang::Rust => Language::Rust,
        Lang::Js => Language::Js,
        Lang::Python => Language::Python,
        Lang::C => Language::C,
        Lang::Go => Language::Go,
    };
    let directory = args.parent.join(&args.name);
    let directory = directory.strip_prefix(".").map(Path::to_owned).unwrap_or(directory);
    let project = template::write(&directory, &args.name, language, kind)?;
    let name = &project.name;
    let source = project.source();
    let source = source.strip_prefix(&directory).unwrap_or(&source);
    println!("made {}: a {what} in {language}; its code is {}", directory.display(), source.display());
    println!("\nNext:\n  cd {}", directory.display());
    for (command, why) in steps(name, language, kind) {
        println!("  {command}\n      {why}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What to type in the project, and why.
fn steps(name: &str, language: Language, kind: PluginKind) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    if let Some(setup) = template::setup(language) {
        steps.push((setup, "gets the toolchain, into this folder".to_owned()));
    }
    steps.push(("witgate plugin build".to_owned(), format!("makes {name}.wasm")));
    steps.push(match kind {
        PluginKind::Policy => ("witgate plugin test".to_owned(), format!("asks it what {name}.test.yaml says")),
        PluginKind::Strategy => (
            format!(
                "echo secret > token && witgate plugin run {name}.wasm --token {}=token",
                name.to_ascii_lowercase()
            ),
            "asks it for a credential, as for a client that brought this token".to_owned(),
        ),
    });
    steps.push((
        "witgate plugin dev --into DIR".to_owned(),
        "does this at every save, and puts it into DIR, the plug-in folder of a gate that runs".to_owned(),
    ));
    steps
}

const EXAMPLES: &str = "\
Examples:
  witgate plugin new no-shells                        a policy in Rust, in ./no-shells
  witgate plugin new --lang js no-shells              the same in JavaScript
  witgate plugin new --strategy --lang python corp    a strategy for clusters with `authProvider: corp`

docs/write-your-first-policy.md goes from here to a policy that a gate enforces.

Exit codes: 0 done, 1 the name cannot be or is taken, 2 the command line is not understood.";
