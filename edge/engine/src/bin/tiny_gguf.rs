//! Writes the tiny test model: `tiny_gguf FILE [SEED]`.
//!
//! The file speaks nonsense; it is for trying the engine without downloading a model.

use std::path::PathBuf;
use std::process::ExitCode;

use cocoon_engine::tiny_gguf::TinyModel;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: tiny_gguf FILE [SEED]");
        return ExitCode::from(2);
    };
    let Ok(seed) = arguments.next().unwrap_or_else(|| "0".to_owned()).parse() else {
        eprintln!("the seed is a whole number, such as 7");
        return ExitCode::from(2);
    };
    match (TinyModel { seed, ..TinyModel::default() }).write_to(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{}: {fault}", path.display());
            ExitCode::FAILURE
        }
    }
}
