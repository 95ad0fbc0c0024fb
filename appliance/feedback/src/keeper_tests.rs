use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::store::tests::completion;

fn start(folder: &Path) -> (Keeper, mpsc::Receiver<String>) {
    let settings = Settings {
        folder: folder.to_owned(),
        keep_days: 90,
        max_bytes: 16 << 20,
        reserve: 0,
    };
    let (to, said) = mpsc::channel();
    let say = Box::new(move |text| drop(to.send(text)));
    (Keeper::start(settings, say).unwrap(), said)
}

fn now_completed(id: &str) -> Completion {
    Completion {
        time: Timestamp::now(),
        ..completion(id, "a", "q", "answer")
    }
}

fn wait<T: Send + 'static>(ask: impl FnOnce(Reply<T>)) -> Result<T, Refused> {
    let (to, from) = mpsc::channel();
    ask(Box::new(move |result| drop(to.send(result))));
    from.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn judge(keeper: &Keeper, id: &str, score: f64) -> Result<Given, Refused> {
    let judging = Judging {
        key: "a".into(),
        completion: id.into(),
        judgment: Judgment::new(score, None, None).unwrap(),
        id: "fb-1".into(),
    };
    wait(|reply| keeper.judge(judging, reply))
}

fn end(keeper: &Keeper) {
    keeper.end();
    let until = Instant::now() + Duration::from_secs(60);
    while !keeper.ended() {
        assert!(Instant::now() < until, "the thread does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_was_handed_over_before_can_be_judged_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, _said) = start(dir.path());
    keeper.remember(now_completed("c1"));
    assert!(!judge(&keeper, "c1", 0.5).unwrap().repeated);
    assert!(judge(&keeper, "c1", 0.5).unwrap().repeated);
    assert!(matches!(
        judge(&keeper, "c2", 0.5),
        Err(Refused::Judge(JudgeError::Unknown))
    ));
    assert_eq!(wait(|reply| keeper.forget(What::Everything, reply)).unwrap(), 1);
    assert!(judge(&keeper, "c1", 0.5).is_err());
    assert_eq!(keeper.stats().lost(), 0);
    end(&keeper);
    assert!(matches!(judge(&keeper, "c1", 0.5), Err(Refused::Busy)));
    keeper.remember(now_completed("c3"));
    assert_eq!(keeper.stats().lost(), 1);
}

#[test]
fn a_folder_that_is_not_there_is_told_once_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("feedback");
    let (keeper, said) = start(&folder);
    let told = said.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(told.starts_with("failed to list "), "{told}");
    for _ in 0..3 {
        keeper.remember(now_completed("c1"));
        assert!(matches!(judge(&keeper, "c1", 0.5), Err(Refused::Away(_))));
    }
    assert_eq!(keeper.stats().lost(), 3);
    assert!(said.try_recv().is_err(), "it is told over and over");
    std::fs::create_dir(&folder).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while matches!(judge(&keeper, "c1", 0.5), Err(Refused::Away(_))) {
        assert!(Instant::now() < until, "it is not tried again");
        std::thread::sleep(Duration::from_millis(100));
    }
    keeper.remember(now_completed("c1"));
    assert!(judge(&keeper, "c1", 0.5).is_ok());
}

#[test]
fn damage_is_told_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, _) = start(dir.path());
    keeper.remember(now_completed("c1"));
    judge(&keeper, "c1", 0.5).unwrap();
    end(&keeper);
    let path = dir.path().join(crate::FEEDBACK.name(1));
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.insert_str(0, "nonsense\n");
    text.push_str("{\"feedb");
    std::fs::write(&path, text).unwrap();
    let (keeper, said) = start(dir.path());
    let told = [0; 2].map(|_| said.recv_timeout(Duration::from_secs(60)).unwrap());
    assert!(
        told[0].contains("7 torn bytes") && told[1].contains("1 of 2 lines"),
        "{told:?}"
    );
    assert!(judge(&keeper, "c1", 0.5).unwrap().repeated);
}
