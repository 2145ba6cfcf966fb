//! `cocoon model`: which bytes a model is.

use anyhow::Result;
use clap::{Args, Subcommand};
use cocoon_model::{Model, ModelFault, Root, check_image, promised_root};
use cocoon_units::ModelName;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::{Path, PathBuf};

use crate::mistake;

/// Smallest model that gets a progress bar, bytes.
const BAR_FROM_BYTES: u64 = 64 << 20;

/// Options of `cocoon model`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelOptions {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ModelCommand {
    /// Print the root of a model's folder or file, the same on every machine.
    Hash {
        /// The model's folder, or its only file.
        path: PathBuf,
        /// Print the full name with this beginning: name@commit.
        #[arg(long, value_name = "NAME@COMMIT")]
        name: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare a model, or a packed image, with the root that its name promises.
    Verify {
        /// The model's folder, its only file, or with --image a packed image.
        path: PathBuf,
        /// What it should be: a full name, name@commit:root, or a root alone.
        expected: String,
        /// The path is a packed image.
        #[arg(long)]
        image: bool,
        /// The image's hash tree, which must belong to it.
        #[arg(long, value_name = "FILE", requires = "image")]
        tree: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write a model as an image with a hash tree, which a kernel opens with dm-verity.
    Pack {
        /// The model's folder, or its only file.
        path: PathBuf,
        /// The image to write; the hash tree goes beside it, with .verity at its end.
        image: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// `cocoon model`
pub(crate) fn run(options: ModelOptions) -> Result<()> {
    match options.command {
        ModelCommand::Hash { path, name, json } => hash(&path, name.as_deref(), json),
        ModelCommand::Verify { path, expected, image, tree, json } => {
            verify(&path, &expected, image.then_some(tree), json)
        }
        ModelCommand::Pack { path, image, json } => pack(&path, &image, json),
    }
}

fn hash(path: &Path, name: Option<&str>, json: bool) -> Result<()> {
    let model = Model::open(path).map_err(guilt)?;
    let root = with_bar(json, |progress| model.root(progress))?;
    let full = name.map(|name| format!("{name}:{root}"));
    let listed = full.as_ref().map(|full| ModelName::new(full.clone()).map_err(mistake));
    let listed = listed.transpose()?.map(|name| cocoon_units::ImageHash(name.hash()));
    if json {
        println!(
            "{}",
            json!({
                "root": root.to_string(),
                "name": full,
                "registry_hash": listed.map(|hash| hash.to_base64()),
                "files": model.archive().members().len(),
                "image_bytes": model.archive().total_bytes(),
            })
        );
        return Ok(());
    }
    match (full, listed) {
        (Some(full), Some(listed)) => {
            println!("{full}");
            println!("registry lists {} (SHA-256 of the name)", listed.to_base64());
        }
        _ => println!("{root}"),
    }
    Ok(())
}

fn verify(path: &Path, expected: &str, image: Option<Option<PathBuf>>, json: bool) -> Result<()> {
    let wanted: Root = match ModelName::new(expected).ok().and_then(|name| promised_root(&name)) {
        Some(root) => root,
        None => expected.parse().map_err(|_| {
            mistake(format_args!(
                "{expected:?} is neither a full name, name@commit:root, nor a root of 64 hex digits"
            ))
        })?,
    };
    let found = match &image {
        Some(tree) => with_bar(json, |progress| check_image(path, tree.as_deref(), progress))?,
        None => {
            let model = Model::open(path).map_err(guilt)?;
            with_bar(json, |progress| model.root(progress))?
        }
    };
    let holds = found == wanted;
    if json {
        let (found, wanted) = (found.to_string(), wanted.to_string());
        println!("{}", json!({ "holds": holds, "root": found, "expected": wanted }));
    } else if holds {
        println!("{} has the root {found}", path.display());
    }
    if holds {
        return Ok(());
    }
    Err(ModelFault::WrongRoot { path: path.to_owned(), expected: wanted, found }.into())
}

fn pack(path: &Path, image: &Path, json: bool) -> Result<()> {
    let model = Model::open(path).map_err(guilt)?;
    let mut tree = image.as_os_str().to_owned();
    tree.push(".verity");
    let tree = PathBuf::from(tree);
    let packed = with_bar(json, |progress| model.pack(image, &tree, progress))?;
    if json {
        println!(
            "{}",
            json!({
                "root": packed.root.to_string(),
                "image": image,
                "image_bytes": packed.image_bytes,
                "tree": tree,
                "tree_bytes": packed.tree_bytes,
            })
        );
        return Ok(());
    }
    println!("root   {}", packed.root);
    println!("image  {} ({} bytes)", image.display(), packed.image_bytes);
    println!("tree   {} ({} bytes)", tree.display(), packed.tree_bytes);
    println!(
        "open   veritysetup open {} model {} {}",
        image.display(),
        tree.display(),
        packed.root
    );
    Ok(())
}

/// Shows how far a long model is, on a terminal.
fn with_bar<T>(
    json: bool,
    work: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> Result<T, ModelFault>,
) -> Result<T> {
    let mut bar: Option<ProgressBar> = None;
    let done = work(&mut |done, total| {
        if total >= BAR_FROM_BYTES && !json {
            let bar = bar.get_or_insert_with(|| {
                let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                let bar = ProgressBar::new(total);
                bar.set_style(
                    ProgressStyle::with_template(style)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
                bar
            });
            bar.set_position(done);
        }
        true
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done.map_err(guilt)
}

/// A path that is not there, or a folder that is no model, is the user's mistake.
fn guilt(fault: ModelFault) -> anyhow::Error {
    match fault {
        ModelFault::Io { .. } | ModelFault::NotPlain { .. } | ModelFault::Archive(_) => {
            mistake(fault)
        }
        other => other.into(),
    }
}
