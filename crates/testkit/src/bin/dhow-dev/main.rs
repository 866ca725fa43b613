//! What `./dev` leaves to a program: fixtures on the command line, house rules about dependencies, and the benches.
#![forbid(unsafe_code)]

mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dhow_testkit::{Docker, Error, Image, Result, Tools};

#[derive(Parser)]
#[command(about = "Fixtures and benches of Dhow, for ./dev")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the path of Debian's docker client, fetched if it is not there yet
    Client,
    /// Import the offline images into the engine on this socket
    Images {
        /// The engine's Docker socket
        socket: PathBuf,
        /// Only busybox
        #[arg(long)]
        small: bool,
    },
    /// Run a command with DHOW_TEST_SOCKET and DOCKER_HOST naming a real dockerd that lives as long as it
    Dockerd {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Measure, and print medians with their spread
    Bench {
        /// What to measure; everything when nothing is named
        #[arg(value_enum)]
        which: Vec<bench::Bench>,
    },
}

fn main() -> ExitCode {
    match act(Arguments::parse().what) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(what: What) -> Result<ExitCode> {
    match what {
        What::Client => println!("{}", Tools::get()?.docker.display()),
        What::Images { socket, small } => {
            let docker = Docker::new(Tools::get()?, socket);
            let images: &[Image] = if small { &[Image::Busybox] } else { &Image::ALL };
            for image in images {
                println!("{}", image.ensure(&docker)?);
            }
        }
        What::Bench { which } => bench::bench(&which)?,
        What::Dockerd { command } => return with_dockerd(&command),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
fn with_dockerd(command: &[String]) -> Result<ExitCode> {
    use std::process::Command;

    use dhow_testkit::run;

    let dockerd = dhow_testkit::Dockerd::start()?;
    let [program, arguments @ ..] = command else { return Ok(ExitCode::SUCCESS) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DHOW_TEST_SOCKET", dockerd.socket())
        .env("DOCKER_HOST", format!("unix://{}", dockerd.socket().display()));
    let status = run::spawn(&mut command)?.wait().map_err(Error::io("wait for", program))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

#[cfg(not(target_os = "linux"))]
fn with_dockerd(_: &[String]) -> Result<ExitCode> {
    Err(Error::Missing { what: "dockerd".to_owned(), hint: "it runs on Linux only".to_owned() })
}
