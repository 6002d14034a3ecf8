//! The HTML pages as a browser shows them: Chromium without a window, and without a network.
//!
//! Where there is no Chromium, the tests say so and check nothing.

use crate::fake::{self, Manners};
use crate::{describe, loadtest, not_tested};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a loaded machine needs; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
const WINDOW: (u32, u32) = (1000, 1800);

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("memkv-loadtest-it-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn browser() -> Option<&'static str> {
    let answers =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(answers);
    if found.is_none() {
        not_tested("chromium", "there is none to show a page");
    }
    found
}

/// Opens a page in a profile of its own and returns what is printed.
fn browse(browser: &str, folder: &Folder, task: &[String], page: &Path) -> String {
    let printed = folder.file("printed");
    let profile = format!("--user-data-dir={}", folder.file("profile").display());
    let child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", &profile])
        .arg(format!("--window-size={},{}", WINDOW.0, WINDOW.1))
        .args(task)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(File::create(&printed).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(ends(child), "Chromium failed at {task:?}");
    fs::read_to_string(printed).unwrap()
}

/// Waits for the end of a process and says whether it was a good one. One that does not end is ended.
fn ends(mut child: Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        // Between two looks; a browser takes seconds, and needs the core.
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// The numbers of points of all curves in the page as the browser has read it.
fn curves(dom: &str) -> Vec<usize> {
    let paths = dom.split("<path d=\"").skip(1).filter_map(|rest| rest.split('"').next());
    paths.map(|path| path.matches(['M', 'L']).count()).collect()
}

/// Different colours of a picture, and how many of its pixels are not of the most frequent one.
fn colours(picture: &Path) -> (usize, usize) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(picture).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.width, info.height), WINDOW);
    let pixels = || bytes[..info.buffer_size()].chunks_exact(info.color_type.samples());
    let background = pixels().next().unwrap();
    (pixels().collect::<HashSet<_>>().len(), pixels().filter(|pixel| *pixel != background).count())
}

/// Has a result written as a page, and looks at it: what is in it as the browser has read it, and that the picture shows something.
fn look(name: &str, options: &str, servers: &[&str], check: impl FnOnce(&str)) {
    let Some(browser) = browser() else { return };
    let folder = Folder::new(name);
    let (page, picture) = (folder.file("page.html"), folder.file("page.png"));
    let addresses: Vec<String> = servers.iter().map(|_| fake::start(Manners::Honest)).collect();
    let mut words: Vec<&str> = options.split(' ').chain(["--html", page.to_str().unwrap()]).collect();
    words.extend(servers.iter().zip(&addresses).flat_map(|(option, address)| [*option, address]));
    let output = loadtest(&words);
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));

    let text = fs::read_to_string(&page).unwrap();
    for part in ["http", "<script", "src=", "url(", "NaN", "inf "] {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
    let dom = browse(browser, &folder, &["--dump-dom".into()], &page);
    assert!(dom.contains("What the figures do not show"), "{dom}");
    check(&dom);

    browse(browser, &folder, &[format!("--screenshot={}", picture.display())], &page);
    let (colours, drawn) = colours(&picture);
    // Text is drawn in shades, curves in colours; a blank page has one colour.
    assert!(colours >= 20, "{colours} colours in the picture");
    assert!(drawn >= 10_000, "{drawn} pixels are drawn");
}

/// A page has so many curves at least, with so many points.
fn check_curves(dom: &str, curves_min: usize, points_min: usize) {
    let points = curves(dom);
    assert!(points.len() >= curves_min, "{points:?} points of curves in {dom}");
    assert!(points.iter().sum::<usize>() >= points_min, "{points:?} points of curves in {dom}");
}

#[test]
fn a_run_is_drawn() {
    let run = "run --quiet --duration 1s --connections 4 --keys 1000 --rate 2k";
    // Three curves of percentiles, throughput and hit ratio over time.
    look("page-run", run, &["--server"], |dom| {
        check_curves(dom, 5, 60);
        assert!(dom.contains("Open loop: 2000 requests/s offered"), "{dom}");
    });
}

#[test]
fn a_sweep_is_drawn() {
    let sweep = "sweep --quiet --duration 100ms --connections 4 --keys 100 --objective p50<5s --from 100 --to 1k";
    // Four percentiles against the rate, and the rate that was answered.
    look("page-sweep", sweep, &["--server"], |dom| {
        check_curves(dom, 5, 15);
        assert!(dom.contains(">knee</text>"), "{dom}");
    });
}

#[test]
fn a_replay_is_drawn() {
    let trace = std::env::temp_dir().join(format!("memkv-loadtest-it-page-{}.txt", std::process::id()));
    fs::write(&trace, "a 100\nb 200\na\nc\nb\na\n".repeat(50)).unwrap();
    let replay = format!("replay --quiet --intervals 10 --trace {}", trace.display());
    look("page-replay", &replay, &["--server", "--compare"], |dom| {
        check_curves(dom, 2, 20);
        assert!(dom.contains("A hits 99.00 %, B hits 99.00 %, a difference of +0.00 points"), "{dom}");
    });
    fs::remove_file(trace).unwrap();
}

#[test]
fn a_comparison_is_drawn() {
    let compare = "compare --quiet --suite foundation --connections 3 --keys 500 --slices 3 --slice 30ms";
    look("page-compare", compare, &["--a", "--b"], |dom| {
        // Five workloads: two ratios of one bar each, CPU time and throughput of two.
        assert_eq!(dom.matches("class=\"whisker\"").count(), 5 * (1 + 1 + 2 + 2), "{dom}");
        assert!(dom.contains("get of 100 keys: "), "{dom}");
    });
}
