//! Checks of the Dockerfile that need no container tool. `make image-test` builds the image and runs it.

use std::{fs, path::Path, process::Command};

use parse_dockerfile::{Dockerfile, Instruction, Source, Stage, parse};

use crate::contract::server::binary;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const BINARY: &str = "/usr/local/bin/changelogd";

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap()
}

fn last<'a, 'b>(dockerfile: &'b Dockerfile<'a>) -> Stage<'a, 'b> {
    dockerfile.stages().last().expect("a stage")
}

/// The shell commands of a stage, with their options.
fn commands(stage: &Stage<'_, '_>) -> Vec<(String, Vec<String>)> {
    let command = |instruction: &Instruction<'_>| match instruction {
        Instruction::Run(run) => {
            assert!(run.here_docs.is_empty(), "buildah 1.28 knows no heredocs");
            let parse_dockerfile::Command::Shell(text) = &run.arguments else { panic!("not a shell command") };
            Some((text.value.replace("\\\n", " "), run.options.iter().map(flag).collect()))
        }
        _ => None,
    };
    stage.instructions.iter().filter_map(command).collect()
}

fn flag(flag: &parse_dockerfile::Flag<'_>) -> String {
    format!("{}={}", flag.name.value, flag.value.as_ref().map_or("", |value| &value.value))
}

/// Sources, destination and options of each COPY.
fn copies(stage: &Stage<'_, '_>) -> Vec<(Vec<String>, String, Vec<String>)> {
    let path = |source: &Source<'_>| match source {
        Source::Path(path) => path.value.to_string(),
        _ => panic!("buildah 1.28 knows no heredocs"),
    };
    let copy = |instruction: &Instruction<'_>| match instruction {
        Instruction::Copy(copy) => {
            let options = copy.options.iter().map(flag).collect();
            Some((copy.src.iter().map(path).collect(), copy.dest.value.to_string(), options))
        }
        _ => None,
    };
    stage.instructions.iter().filter_map(copy).collect()
}

/// Covers S14.
#[test]
fn the_image_runs_as_an_unprivileged_user_on_a_base_without_a_shell() {
    let text = read("Dockerfile");
    let dockerfile = parse(&text).unwrap();
    let image = last(&dockerfile);
    assert!(image.from.image.value.starts_with("gcr.io/distroless/cc-debian12:nonroot@"), "{:?}", image.from.image);
    let (mut user, mut entrypoint, mut volume, mut environment) = (None, None, None, String::new());
    for instruction in image.instructions {
        match instruction {
            Instruction::User(i) => user = Some(i.arguments.value.to_string()),
            Instruction::Entrypoint(i) => match &i.arguments {
                parse_dockerfile::Command::Exec(words) => {
                    entrypoint = Some(words.value.iter().map(|word| word.value.to_string()).collect::<Vec<_>>());
                }
                _ => panic!("a shell would start it"),
            },
            Instruction::Volume(i) => volume = Some(format!("{:?}", i.arguments)),
            Instruction::Env(i) => environment += &i.arguments.value,
            Instruction::Run(_) | Instruction::Shell(_) => panic!("a shell would be needed"),
            Instruction::Add(_) => panic!("ADD fetches and unpacks"),
            _ => {}
        }
    }
    assert_eq!(user.as_deref(), Some("65532:65532"), "a number, for runAsNonRoot");
    assert_eq!(entrypoint, Some(vec![BINARY.to_owned()]));
    assert!(volume.is_some_and(|volume| volume.contains("/var/lib/changelogd")));
    assert!(
        environment.contains("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"),
        "CA roots for TLS to the brokers"
    );
}

/// Covers S14.
#[test]
fn each_base_image_is_pinned_by_tag_and_digest() {
    let text = read("Dockerfile");
    let dockerfile = parse(&text).unwrap();
    assert!(dockerfile.parser_directives.syntax.is_none(), "a frontend that is downloaded would be another base");
    for stage in dockerfile.stages() {
        let image = &stage.from.image.value;
        let (name, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image} has no digest"));
        assert!(
            digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{image}"
        );
        let (repository, tag) = name.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(repository.split('/').next().unwrap().contains('.'), "{image}: its registry is the builder's choice");
        assert_ne!(tag, "latest");
        assert!(stage.from.options.is_empty(), "{image}: a platform of its own would be cross-compilation");
    }
    let build = dockerfile.stage("build").expect("the stage of the build");
    let channel = read("rust-toolchain.toml");
    let version = channel.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(
        build.from.image.value.contains(&format!("/rust:{version}-bookworm@")),
        "the toolchain's version, {version}"
    );
}

/// Covers S14.
#[test]
fn the_labels_name_the_source_the_commit_and_the_base() {
    let text = read("Dockerfile");
    let dockerfile = parse(&text).unwrap();
    let image = last(&dockerfile);
    let (mut labels, mut arguments) = (String::new(), Vec::new());
    for instruction in image.instructions {
        match instruction {
            Instruction::Label(i) => labels += &format!("{} ", i.arguments.value.replace("\\\n", " ")),
            Instruction::Arg(i) => arguments.push(i.arguments.value.split('=').next().unwrap().to_owned()),
            _ => {}
        }
    }
    let base = image.from.image.value.split('@').next().unwrap().to_owned();
    for (name, expected) in [
        ("title", "changelogd"),
        ("description", ""),
        ("licenses", "Apache-2.0"),
        ("source", "${SOURCE}"),
        ("url", "${SOURCE}"),
        ("documentation", "${SOURCE}"),
        ("revision", "${REVISION}"),
        ("version", "${VERSION}"),
        ("created", "${CREATED}"),
        ("base.name", &base),
    ] {
        let label = format!("org.opencontainers.image.{name}=\"{expected}");
        assert!(labels.contains(&label), "{label} is missing in {labels}");
    }
    for (index, _) in labels.match_indices("${") {
        let name = labels[index + 2..].split('}').next().unwrap();
        assert!(arguments.iter().any(|argument| argument == name), "{name} is no argument of the last stage");
    }
    let workflow = read(".github/workflows/release.yml");
    for argument in arguments {
        assert!(workflow.contains(&format!("{argument}=")), "release.yml does not set {argument}");
    }
}

/// Covers S14.
#[test]
fn the_dockerfile_has_only_what_buildah_and_buildkit_know() {
    let text = read("Dockerfile");
    let dockerfile = parse(&text).unwrap();
    for stage in dockerfile.stages() {
        for (_, options) in commands(&stage) {
            for option in options {
                let mount = option.strip_prefix("mount=").unwrap_or_else(|| panic!("{option} is not known to both"));
                assert!(mount.starts_with("type=cache,"), "{mount}");
                let known = ["type", "id", "target", "sharing"];
                assert!(mount.split(',').all(|part| known.contains(&part.split('=').next().unwrap())), "{mount}");
            }
        }
        for (_, _, options) in copies(&stage) {
            let known = |option: &String| ["from=", "chown="].iter().any(|known| option.starts_with(known));
            assert!(options.iter().all(known), "{options:?} are not all known to both");
        }
    }
}

/// What the final stage copies is in the context, or the build stage makes it. The binary of the test build links to
/// nothing else than what the Dockerfile lets it.
/// Covers S13, S14.
#[test]
fn the_files_of_the_image_are_made_or_there() {
    let text = read("Dockerfile");
    let dockerfile = parse(&text).unwrap();
    let build = commands(&dockerfile.stage("build").unwrap());
    let mut destinations = Vec::new();
    for (sources, destination, options) in copies(&last(&dockerfile)) {
        for source in sources {
            if options.contains(&"from=build".to_owned()) {
                assert!(build.iter().any(|(command, _)| command.contains(&source)), "no command makes {source}");
            } else {
                assert!(Path::new(ROOT).join(&source).exists() && !ignored(&source), "{source} is not in the context");
            }
        }
        if destination == "/var/lib" {
            assert!(options.contains(&"chown=65532:0".to_owned()), "an arbitrary user is in group 0");
        }
        destinations.push(destination);
    }
    for expected in [BINARY, "/usr/share/doc/changelogd/LICENSE", "/usr/share/doc/changelogd", "/var/lib"] {
        assert!(destinations.iter().any(|destination| destination == expected), "{expected} is missing");
    }
    let (whole, _) = build.iter().find(|(command, _)| command.contains("cargo auditable build")).expect("auditable");
    assert!(whole.contains("install -d -m 0770 /out/lib/changelogd"), "group 0 writes in the data directory");
    assert!(whole.contains("CHANGELOGD_COMMIT=\"$REVISION\""), "the program reports its commit");

    let libraries = Command::new("ldd").arg(binary()).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    assert!(libraries.contains("libc.so"), "{libraries}");
    // The test build may take zlib from this machine. LIBZ_SYS_STATIC=1 in the Dockerfile forbids it.
    assert!(text.contains("\nENV LIBZ_SYS_STATIC=1\n"));
    let libraries: String = libraries.split_inclusive('\n').filter(|line| !line.contains("libz.so")).collect();
    assert!(accepted(&build, &libraries), "the final image does not have all of {libraries}");
    assert!(!accepted(&build, &format!("{libraries}\tlibssl.so.3 => /lib/libssl.so.3 (0x0)\n")), "it has no libssl");
}

/// Whether the Dockerfile's own command accepts what `ldd` prints.
fn accepted(build: &[(String, Vec<String>)], libraries: &str) -> bool {
    let (command, _) = build.iter().find(|(command, _)| command.starts_with("ldd ")).expect("the check of libraries");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("printed"), libraries).unwrap();
    let out = dir.path().display();
    let command =
        command.replace("ldd /out/changelogd", &format!("cat {out}/printed")).replace("/out/", &format!("{out}/"));
    Command::new("sh").args(["-c", &command]).output().unwrap().status.success()
}

/// Cargo reads the manifest of each member, so a build without one of them fails.
#[test]
fn each_package_of_the_workspace_is_in_the_context() {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 5, "{members:?}");
    for member in members {
        let file = format!("{}/Cargo.toml", member.replace("/*", "/any"));
        assert!(!ignored(&file), ".dockerignore leaves {file} out");
    }
    for file in ["Cargo.toml", "Cargo.lock", "build.rs", "README.md", "proto/changelog.proto", "src/main.rs"] {
        assert!(!ignored(file), ".dockerignore leaves {file} out");
    }
    for file in [".git/config", "target/debug/changelogd", "rust-toolchain.toml", "helm/changelogd/Chart.yaml"] {
        assert!(ignored(file), "{file} is sent to the builder");
    }
}

/// The last pattern that matches decides. A pattern without `*` also matches what is below it.
fn ignored(path: &str) -> bool {
    let matches = |pattern: &str| {
        let (mut of_pattern, mut of_path) = (pattern.split('/'), path.split('/'));
        of_pattern.all(|part| {
            of_path.next().is_some_and(|name| match part.split_once('*') {
                Some((begin, end)) => name.len() >= part.len() - 1 && name.starts_with(begin) && name.ends_with(end),
                None => name == part,
            })
        })
    };
    let file = read(".dockerignore");
    let patterns = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    patterns.fold(false, |out, pattern| match pattern.strip_prefix('!') {
        Some(kept) => out && !matches(kept),
        None => out || matches(pattern),
    })
}
