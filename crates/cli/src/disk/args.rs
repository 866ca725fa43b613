//! What was typed behind `dhow disk` and `dhow rescue`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use dhow_model::{MachineName, Size};

/// Whose disk.
#[derive(Debug, Clone, Args)]
pub struct Whose {
    /// The machine
    #[arg(short, long, value_name = "NAME", default_value_t = MachineName::native())]
    pub machine: MachineName,
}

/// A command about a machine's data disk.
#[derive(Debug, Subcommand)]
pub enum DiskVerb {
    /// Show what the data disk takes here, what is in it, and what could be freed
    Usage {
        #[command(flatten)]
        whose: Whose,
    },
    /// Give what is free in the data disk back to this computer; a machine that sleeps is woken
    Compact {
        #[command(flatten)]
        whose: Whose,
    },
    /// Make the data disk larger: now if the machine runs, else at its next start
    Grow {
        /// Its new size, such as 128GiB
        size: Size,
        #[command(flatten)]
        whose: Whose,
    },
    /// Check the data disk's file system; the machine must be off
    Check {
        /// Repair what is wrong
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// Copy the whole data disk to a file, as it is; the machine must be off or in rescue
    Export {
        /// The file to write, which must not exist
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        whose: Whose,
    },
}

/// A command about a machine whose data disk cannot be used.
#[derive(Debug, Subcommand)]
pub enum RescueVerb {
    /// List the images, volumes and containers that can be saved
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Save them as tar archives: everything, or what is named
    Export {
        /// The directory to write to
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
        /// An image, for `docker load`; may be given again
        #[arg(long, value_name = "NAME")]
        image: Vec<String>,
        /// A volume's files; may be given again
        #[arg(long, value_name = "NAME")]
        volume: Vec<String>,
        /// A container's files; may be given again
        #[arg(long, value_name = "NAME")]
        container: Vec<String>,
        #[command(flatten)]
        whose: Whose,
    },
}
