//! `build ARCH STORE AGENT`: makes boot assets, as `dhow assets build` does.

use dhow_assets::{BuildOptions, Progress, Store, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [arch, directory, agent] = words.as_slice() else {
        return Err("usage: build ARCH STORE AGENT".into());
    };
    let store = Store::open(directory.into())?;
    let mut options = BuildOptions::new(arch.parse()?, agent.into());
    options.refresh = std::env::var_os("REFRESH").is_some();
    let began = std::time::Instant::now();
    let bundle = build(&store, &options, &mut |progress| {
        if let Progress::Begin { step, detail } = progress {
            println!("{:6.2} s  {} {detail}", began.elapsed().as_secs_f32(), step.verb());
        }
    })?;
    println!("{:6.2} s  {} {}", began.elapsed().as_secs_f32(), bundle.arch, bundle.id);
    for input in [&bundle.kernel, &bundle.initrd, &bundle.root] {
        println!("{}", input.path.display());
    }
    Ok(())
}
