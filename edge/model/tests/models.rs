//! Models on disk: the same bytes as GNU tar's, the same root as the kernel tools', changes found.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cocoon_model::{Model, ModelFault, Root, check, check_image};

fn silent() -> impl FnMut(u64, u64) -> bool {
    |_, _| true
}

/// A folder with everything that needs care: names that are long, not ASCII, that sort around a
/// slash; empty files, folders in folders, other rights.
fn sample(dir: &Path) -> PathBuf {
    let top = dir.join("model");
    let long = "n".repeat(130);
    fs::create_dir_all(top.join("sub").join("d".repeat(90))).unwrap();
    fs::create_dir_all(top.join(&long)).unwrap();
    for (path, size) in [
        ("config.json", 700),
        ("Zed", 0),
        ("sub.txt", 512),
        ("sub-x", 1),
        ("sub/y", 4096),
        ("ünïcode", 3),
        ("model.gguf", 700_001),
    ] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at * 7 + at / 251) as u8).collect();
        fs::write(top.join(path), bytes).unwrap();
    }
    fs::write(top.join("sub").join("d".repeat(90)).join("f".repeat(60)), b"deep").unwrap();
    fs::write(top.join(&long).join("in"), b"in").unwrap();
    fs::set_permissions(top.join("Zed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(top.join("sub-x"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(top.join(".cache/huggingface")).unwrap();
    fs::write(top.join(".cache/huggingface/x"), b"of a download tool").unwrap();
    top
}

/// The archive by GNU tar, with the network's options and padding (protocol notes, wire 6.3).
fn by_tar(top: &Path, out: &Path) {
    let status = Command::new("tar")
        .env("LC_ALL", "C")
        .arg("-cf")
        .arg(out)
        .arg("-C")
        .arg(top)
        .args(["--exclude=./.cache", "--sort=name", "--format=posix"])
        .args(["--pax-option=exthdr.name=%d/PaxHeaders/%f"])
        .args(["--pax-option=delete=atime,delete=ctime", "--clamp-mtime", "--mtime=@0"])
        .args(["--numeric-owner", "--owner=0", "--group=0", "--mode=go+u,go-w", "."])
        .status()
        .unwrap();
    assert!(status.success());
    let file = fs::OpenOptions::new().write(true).open(out).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes + 4096 - bytes % 4096).unwrap();
}

#[test]
fn the_image_is_that_of_gnu_tar_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let top = sample(dir.path());
    let (image, tree) = (dir.path().join("image"), dir.path().join("tree"));
    let packed = Model::open(&top).unwrap().pack(&image, &tree, &mut silent()).unwrap();
    let tar = dir.path().join("tar");
    by_tar(&top, &tar);
    assert!(fs::read(&image).unwrap() == fs::read(&tar).unwrap(), "another archive than tar's");
    assert_eq!(packed.image_bytes, fs::metadata(&image).unwrap().len());
    assert_eq!(packed.tree_bytes, fs::metadata(&tree).unwrap().len());
}

/// Root by `veritysetup format`, Debian's cryptsetup-bin, and the file it makes.
fn by_veritysetup(image: &Path, tree: &Path) -> String {
    let output = Command::new("veritysetup")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["format", "--uuid=645ac31f-7610-42e1-8434-9d733699eac0"])
        .arg("--salt=00010203040506070809101a1b1c1d1e1f")
        .args([image, tree])
        .output()
        .expect("veritysetup runs: the check installs cryptsetup-bin");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn root_and_tree_are_those_of_veritysetup() {
    let dir = tempfile::tempdir().unwrap();
    let top = sample(dir.path());
    let (image, tree) = (dir.path().join("image"), dir.path().join("tree"));
    let packed = Model::open(&top).unwrap().pack(&image, &tree, &mut silent()).unwrap();
    let theirs = dir.path().join("theirs");
    assert_eq!(packed.root.to_string(), by_veritysetup(&image, &theirs));
    assert!(fs::read(&tree).unwrap() == fs::read(&theirs).unwrap(), "another tree");
    assert_eq!(check_image(&image, Some(&theirs), &mut silent()).unwrap(), packed.root);
    // One block, the last with one level, the first with two, and three levels.
    for blocks in [1, 2, 127, 128, 129, 16_384, 16_385] {
        let image = dir.path().join(format!("{blocks}"));
        let file = fs::File::create(&image).unwrap();
        file.set_len(blocks * 4096).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", blocks * 4096 - 3).unwrap();
        let theirs = dir.path().join(format!("{blocks}.tree"));
        let expected = by_veritysetup(&image, &theirs);
        let root = check_image(&image, Some(&theirs), &mut silent()).unwrap();
        assert_eq!(root.to_string(), expected, "{blocks} blocks");
    }
}

#[test]
fn roots_do_not_depend_on_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let top = sample(dir.path());
    let root = Model::open(&top).unwrap().root(&mut silent()).unwrap();
    // Another place, other times, another umask, another order of making.
    let other = dir.path().join("elsewhere/copy");
    fs::create_dir_all(&other).unwrap();
    let status = Command::new("cp").arg("-r").arg(top.join(".")).arg(&other).status().unwrap();
    assert!(status.success());
    fs::set_permissions(other.join("config.json"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_dir_all(other.join(".cache")).unwrap();
    assert_eq!(Model::open(&other).unwrap().root(&mut silent()).unwrap(), root);
    // Another byte is another model.
    fs::write(other.join("sub.txt"), b"x").unwrap();
    assert_ne!(Model::open(&other).unwrap().root(&mut silent()).unwrap(), root);
}

#[test]
fn a_model_of_one_file_is_a_folder_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("folder");
    fs::create_dir(&top).unwrap();
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(top.join("a.gguf"), b"weights").unwrap();
    let root = |path: &Path| Model::open(path).unwrap().root(&mut silent()).unwrap();
    assert_eq!(root(&top), root(&top.join("a.gguf")));
}

#[test]
fn what_is_swapped_after_the_check_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let top = sample(dir.path());
    let root = Model::open(&top).unwrap().root(&mut silent()).unwrap();
    let checked = check(&top, root, &mut silent()).unwrap();
    assert!(checked.is_unchanged().unwrap());
    let path = top.join("model.gguf");
    let before = fs::metadata(&path).unwrap();
    // Same length, and the old time put back.
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before.modified().unwrap());
    assert!(!checked.is_unchanged().unwrap());
    let fault = check(&top, root, &mut silent()).unwrap_err();
    assert!(matches!(fault, ModelFault::WrongRoot { .. }), "{fault}");
    bytes[1000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(check(&top, root, &mut silent()).unwrap().is_unchanged().unwrap());
    fs::write(top.join("added.py"), b"import os").unwrap();
    assert!(!checked.is_unchanged().unwrap());
}

#[test]
fn a_file_that_is_written_while_it_is_read_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("model.gguf");
    fs::write(&top, vec![1; 5 << 20]).unwrap();
    let mut write = true;
    let fault = Model::open(&top)
        .unwrap()
        .root(&mut |done, total| {
            if std::mem::take(&mut write) {
                assert!(done < total);
                fs::write(&top, vec![2; 5 << 20]).unwrap();
            }
            true
        })
        .unwrap_err();
    assert!(matches!(fault, ModelFault::Changed { .. }), "{fault}");
}

#[test]
fn links_images_of_other_sizes_and_altered_trees_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let top = sample(dir.path());
    let (image, tree) = (dir.path().join("image"), dir.path().join("tree"));
    Model::open(&top).unwrap().pack(&image, &tree, &mut silent()).unwrap();
    let mut bytes = fs::read(&tree).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&tree, &bytes).unwrap();
    let fault = check_image(&image, Some(&tree), &mut silent()).unwrap_err();
    assert!(matches!(fault, ModelFault::Tree { .. }), "{fault}");
    fs::write(&image, b"short").unwrap();
    check_image(&image, None, &mut silent()).unwrap_err();
    std::os::unix::fs::symlink("/etc/passwd", top.join("link")).unwrap();
    let fault = Model::open(&top).unwrap_err();
    assert!(fault.to_string().contains("symbolic link"), "{fault}");
    let given_up = Model::open(&image).unwrap().root(&mut |_, _| false).unwrap_err();
    assert!(matches!(given_up, ModelFault::GivenUp), "{given_up}");
    let missing = check(&dir.path().join("none"), Root([0; 32]), &mut silent()).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}
