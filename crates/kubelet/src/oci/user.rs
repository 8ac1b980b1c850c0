//! Who runs a container: `securityContext` over the image's user, names looked up in the image's own files.

use crate::rooted;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::path::Path;

/// A passwd or group file larger than this is not read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The user of a container's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Finds the user; `rootfs` is the mounted root file system.
///
/// # Errors
/// The text of a CreateContainerConfigError: a name that the image does not know, or root where
/// `runAsNonRoot` forbids it.
pub fn resolve_user(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    rootfs: &Path,
) -> Result<RunAs, String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let passwd = Table::read(rootfs, "etc/passwd");
    let group = Table::read(rootfs, "etc/group");
    let (image_name, image_group) =
        image_user.split_once(':').map_or((image_user, None), |(u, g)| (u, Some(g)));
    let wanted = own.run_as_user.or(of_pod.run_as_user);
    let user = match wanted {
        Some(uid) => find(&passwd, &uid.to_string())?,
        None => find(&passwd, if image_name.is_empty() { "0" } else { image_name })?,
    };
    let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    if non_root {
        check_non_root(pod, container, wanted, image_name, user.uid)?;
    }
    let gid = match own.run_as_group.or(of_pod.run_as_group) {
        Some(gid) => u32::try_from(gid).map_err(|_| format!("invalid group {gid}"))?,
        None => match image_group.filter(|_| wanted.is_none()) {
            Some(name) => group
                .id_of(name)
                .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))?,
            None => user.gid,
        },
    };
    let mut groups = group.groups_of(&user.name);
    groups.extend(of_pod.supplemental_groups.iter().flatten().filter_map(|gid| u32::try_from(*gid).ok()));
    groups.extend(of_pod.fs_group.and_then(|gid| u32::try_from(gid).ok()));
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(RunAs { uid: user.uid, gid, groups, home: user.home })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    wanted: Option<i64>,
    image: &str,
    uid: u32,
) -> Result<(), String> {
    let meta = &pod.metadata;
    let place = format!(
        "(pod: \"{}_{}({})\", container: {})",
        meta.name.as_deref().unwrap_or(""),
        meta.namespace.as_deref().unwrap_or(""),
        meta.uid.as_deref().unwrap_or(""),
        container.name
    );
    if wanted == Some(0) {
        return Err(format!("container's runAsUser breaks non-root policy {place}"));
    }
    if wanted.is_none() && !image.is_empty() && image.parse::<u32>().is_err() {
        let text = "container has runAsNonRoot and image has non-numeric user";
        return Err(format!("{text} ({image}), cannot verify user is non-root {place}"));
    }
    if uid == 0 {
        return Err(format!("container has runAsNonRoot and image will run as root {place}"));
    }
    Ok(())
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find(passwd: &Table, name: &str) -> Result<User, String> {
    let uid = name.parse::<u32>().ok();
    let line = passwd
        .lines
        .iter()
        .find(|line| line[0] == name || (uid.is_some() && line.get(2).and_then(|id| id.parse().ok()) == uid));
    if let Some(line) = line {
        let number = |at: usize| line.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
        let home = line.get(5).filter(|home| !home.is_empty()).cloned().unwrap_or_else(|| "/".to_owned());
        return Ok(User { name: line[0].clone(), uid: number(2), gid: number(3), home });
    }
    match uid {
        Some(uid) => Ok(User {
            name: String::new(),
            uid,
            gid: 0,
            home: if uid == 0 { "/root" } else { "/" }.to_owned(),
        }),
        None => Err(format!("unable to find user {name}: no matching entries in passwd file")),
    }
}

/// A colon-separated file.
struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// Links in the image are resolved inside of the image.
    fn read(rootfs: &Path, path: &str) -> Self {
        let text = rooted::read(rootfs, path, FILE_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| line.split(':').map(|field| field.trim().to_owned()).collect())
            .collect();
        Self { lines }
    }

    fn id_of(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| {
            self.lines.iter().find(|line| line[0] == name).and_then(|line| line.get(2)?.parse().ok())
        })
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        if user.is_empty() {
            return Vec::new();
        }
        let member = |line: &&Vec<String>| {
            line.get(3).is_some_and(|members| members.split(',').any(|name| name == user))
        };
        self.lines.iter().filter(member).filter_map(|line| line.get(2)?.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn users_come_from_the_pod_then_the_image() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:10:20::/app:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nextra:x:30:app\n").unwrap();
        let check = |pod: serde_json::Value, own: serde_json::Value, image: &str, expect: &str| {
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "securityContext": pod}})).unwrap();
            let container: Container =
                serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
            let shown = match resolve_user(&pod, &container, image, dir.path()) {
                Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
                Err(text) => text.split(" (").next().unwrap_or("").to_owned(),
            };
            assert_eq!(shown, expect);
        };
        check(json!({}), json!({}), "", "0:0 [0] /root");
        check(json!({}), json!({}), "app", "10:20 [20, 30] /app");
        check(json!({}), json!({}), "app:extra", "10:30 [30] /app");
        check(json!({"runAsUser": 5, "fsGroup": 7}), json!({}), "app", "5:0 [0, 7] /");
        check(json!({"runAsUser": 5}), json!({"runAsUser": 6, "runAsGroup": 8}), "", "6:8 [8] /");
        check(
            json!({"runAsNonRoot": true}),
            json!({}),
            "",
            "container has runAsNonRoot and image will run as root",
        );
        check(
            json!({}),
            json!({}),
            "nobody",
            "unable to find user nobody: no matching entries in passwd file",
        );
    }
}
