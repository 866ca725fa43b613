//! Asks a supervisor by hand: `ask SOCKET status | suspend [leave | idle] | resume | stop | force`.

use std::error::Error;

use dhow_proto::supervisor::supervisor_client::SupervisorClient;
use dhow_proto::supervisor::{ResumeRequest, StatusRequest, Step, StopRequest, SuspendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (socket, what) = words.split_first().ok_or("ask SOCKET WHAT")?;
    let socket = (*socket).to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://supervisor").connect_with_connector(connector).await?;
    let mut supervisor = SupervisorClient::new(channel);
    let why = "asked by hand".to_owned();
    match what {
        ["status"] => {}
        ["suspend", how @ ..] => {
            let (leave, unless_busy) = (how.contains(&"leave"), how.contains(&"idle"));
            let request = SuspendRequest { why, leave, unless_busy };
            println!("{:?}", supervisor.suspend(request).await?.into_inner());
            if leave {
                return Ok(());
            }
        }
        ["resume"] => println!("{:?}", supervisor.resume(ResumeRequest { why }).await?.into_inner()),
        ["stop"] | ["force"] => {
            let request = StopRequest { force: *what == ["force"], limit_ms: 0 };
            println!("{:?}", supervisor.stop(request).await?.into_inner());
            return Ok(());
        }
        _ => return Err("status | suspend [leave | idle] | resume | stop | force".into()),
    }
    let status = supervisor.status(StatusRequest {}).await?.into_inner();
    println!("{:?} {:?}, hypervisor {}", status.phase(), status.trouble, status.hypervisor_pid);
    println!("containers {:?}, port connections {}", status.running_containers, status.port_connections);
    if let Some(sleep) = &status.sleep {
        println!("slept {} times, last: {:?}; {} bytes", sleep.slept, sleep.why, sleep.bytes);
        println!("woken by {:?}; set aside: {:?}", sleep.woken_by, sleep.set_aside);
        show("saving", &sleep.saving);
        show("waking", &sleep.waking);
    }
    Ok(())
}

fn show(what: &str, steps: &[Step]) {
    println!("{what}:");
    for step in steps {
        println!(
            "  {:>9} {:>8.1} ms  {}",
            step.name,
            f64::from(u32::try_from(step.took_us).unwrap_or(0)) / 1000.0,
            step.detail
        );
    }
}
