//! A disk of a few MiB of its own, to be filled.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// `None` where this user may not mount.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount(kib: usize) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Changes the size of the disk. It may be smaller than its content.
    pub fn resize(&self, kib: usize) {
        let resized =
            Command::new("mount").args(["-o", &format!("remount,size={kib}k")]).arg(self.path()).status();
        assert!(resized.is_ok_and(|status| status.success()), "it could be mounted");
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.path().join("ballast")).expect("a file on the small disk");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives the room back.
    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
