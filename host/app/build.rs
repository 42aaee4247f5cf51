//! Builds the built-in strategies and the demo's policies from `guests/`, and embeds them in the binary.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use witgate_guest_toolchain::{GuestBuild, GuestToolchain, Packages, Profile, guests_target_directory};

fn main() -> ExitCode {
    let Err(error) = embed_guests() else { return ExitCode::SUCCESS };
    eprintln!("cannot build the guests that the binary brings: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// Leaves `builtins.rs` and `sample_policies.rs` in `OUT_DIR`.
fn embed_guests() -> Result<(), Box<dyn Error>> {
    // Asked for when it runs: two clones that share a target folder share this script's executable too.
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?;
    let repository = Path::new(&manifest_dir).join("../..").canonicalize()?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for input in ["guests/Cargo.toml", "guests/Cargo.lock", "guests/sdk", "guests/strategies", "guests/policies", "wit"]
    {
        println!("cargo::rerun-if-changed=../../{input}");
    }

    let toolchain = GuestToolchain::find(|step| println!("cargo::warning={step}"))?;
    let embed = |folder: &str, members: &[&str], name: &str, documentation: &str| -> Result<String, Box<dyn Error>> {
        let members: Vec<_> =
            members.iter().map(|member| repository.join("guests").join(folder).join(member)).collect();
        let members: Vec<_> = members.iter().map(PathBuf::as_path).collect();
        let mut guests = toolchain.build(&GuestBuild {
            manifest: &repository.join("guests/Cargo.toml"),
            packages: Packages::Under(&members),
            target_directory: &guests_target_directory(&out_dir, &repository),
            profile: Profile::Release,
        })?;
        guests.sort_by(|one, other| one.name.cmp(&other.name));
        let mut code = format!(
            "/// {documentation}: the name and the component.\npub(crate) static {name}: &[(&str, &[u8])] = &[\n"
        );
        fs::create_dir_all(out_dir.join(folder))?;
        for guest in &guests {
            // A copy of its own: the next build of the guests may replace the file while this crate compiles.
            let embedded = out_dir.join(folder).join(format!("{}.wasm", guest.name));
            fs::copy(&guest.component, &embedded)?;
            writeln!(code, "    ({:?}, include_bytes!({embedded:?})),", guest.name)?;
        }
        code.push_str("];\n");
        Ok(code)
    };
    let strategies =
        embed("strategies", &[""], "BUILTINS", "The strategies that the binary brings; a name is an `authProvider`")?;
    fs::write(out_dir.join("builtins.rs"), strategies)?;
    let policies = embed("policies", &DEMO, "SAMPLE_POLICIES", "The policies that `witgate demo` plays with")?;
    fs::write(out_dir.join("sample_policies.rs"), policies)?;
    Ok(())
}

/// Not all policies: some are larger than the rest of the binary's guests together.
const DEMO: [&str; 4] = ["allow-all", "deny-proxy", "namespace-tenancy", "read-only"];
