//! The files and rooms of a crate as a picture: circles among them, arrows that point upwards, and the floors of the rooms.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Arrow, Source};

/// The names of the rooms on each floor, the top floor first.
pub type Floors = Vec<Vec<String>>;

/// A circle of files or rooms: names that reach each other, and the arrows between them.
#[derive(Debug)]
pub struct Circle {
    pub names: BTreeSet<String>,
    pub arrows: Vec<String>,
}

/// Finds the circles of files, also inside a room. A module and the files inside it are not a circle: an inner file may use
/// names of the outer one.
pub fn circles_of_files(source: &Source) -> Vec<Circle> {
    let arrows: Vec<Arrow> =
        source.arrows().into_iter().filter(|arrow| !source.is_ancestor(arrow.to, arrow.from)).collect();
    circles(&arrows, |arrow| (shown(source, arrow.from), shown(source, arrow.to)), source)
}

/// Finds the circles of rooms.
pub fn circles_of_rooms(source: &Source) -> Vec<Circle> {
    circles(&source.arrows(), |arrow| rooms_of(source, arrow), source)
}

/// Lists the arrows between rooms that do not point to a lower floor, the rooms without a floor, and the rooms that do not exist.
pub fn arrows_upwards(source: &Source, floors: &Floors) -> Vec<String> {
    let mut level = BTreeMap::new();
    for (floor, rooms) in floors.iter().enumerate() {
        for room in rooms {
            level.insert(room.as_str(), floor);
        }
    }
    let rooms: BTreeSet<&str> = source.modules.iter().map(|module| module.room()).collect();
    let mut wrong = Vec::new();
    for room in &rooms {
        if !level.contains_key(room) {
            wrong.push(format!("{room}: the page gives it no floor"));
        }
    }
    for room in level.keys() {
        if !rooms.contains(room) {
            wrong.push(format!("{room}: the page has this room, the source does not"));
        }
    }
    for arrow in source.arrows() {
        let from = source.modules[arrow.from].room();
        let to = source.modules[arrow.to].room();
        let is_downwards = match (level.get(from), level.get(to)) {
            (Some(from_floor), Some(to_floor)) => from_floor < to_floor,
            _ => true,
        };
        if from != to && !is_downwards {
            wrong.push(format!("{from} → {to}: {}", described(source, &arrow)));
        }
    }
    wrong
}

/// Computes the floors from the arrows: each room is one floor above the highest room that it uses. Returns none if the rooms
/// have a circle.
pub fn floors_of(source: &Source) -> Option<Floors> {
    if !circles_of_rooms(source).is_empty() {
        return None;
    }
    let mut heights: BTreeMap<String, usize> =
        source.modules.iter().map(|module| (module.room().to_owned(), 0)).collect();
    let arrows: BTreeSet<(String, String)> = source.arrows().iter().map(|arrow| rooms_of(source, arrow)).collect();
    raise(&mut heights, &arrows);
    // The root of the crate is on top if no room uses it.
    let top = heights.values().max().copied().unwrap_or_default();
    for root in source.modules.iter().filter(|module| module.is_root()).map(|module| module.room()) {
        if !arrows.iter().any(|(from, to)| from != to && to == root) {
            heights.insert(root.to_owned(), top);
        }
    }
    raise(&mut heights, &arrows);
    let top = heights.values().max().copied().unwrap_or_default();
    let mut floors = vec![Vec::new(); top + 1];
    for (room, height) in heights {
        floors[top - height].push(room);
    }
    Some(floors)
}

/// Lifts each room above all rooms that it uses. The rooms have no circle.
fn raise(heights: &mut BTreeMap<String, usize>, arrows: &BTreeSet<(String, String)>) {
    let mut has_changed = true;
    while has_changed {
        has_changed = false;
        for (from, to) in arrows.iter().filter(|(from, to)| from != to) {
            let least = heights[to] + 1;
            if heights[from] < least {
                heights.insert(from.clone(), least);
                has_changed = true;
            }
        }
    }
}

fn circles(arrows: &[Arrow], ends: impl Fn(&Arrow) -> (String, String), source: &Source) -> Vec<Circle> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for arrow in arrows {
        let (from, to) = ends(arrow);
        uses.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        uses.keys().map(|name| (name, reachable(&uses, name))).collect();
    let mut found = Vec::new();
    let mut visited = BTreeSet::new();
    for (name, others) in &reached {
        let names: BTreeSet<String> = others
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(name)))
            .map(ToString::to_string)
            .collect();
        if names.len() > 1 && !visited.contains(*name) {
            visited.extend(names.iter().cloned());
            let inside = arrows.iter().filter(|arrow| {
                let (from, to) = ends(arrow);
                from != to && names.contains(&from) && names.contains(&to)
            });
            let arrows = inside.map(|arrow| described(source, arrow)).collect();
            found.push(Circle { names, arrows });
        }
    }
    found
}

/// The names that can be reached from a name by one arrow or more.
fn reachable<'a>(uses: &'a BTreeMap<String, BTreeSet<String>>, start: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&String> = uses.get(start).into_iter().flatten().collect();
    while let Some(name) = next.pop() {
        if found.insert(name) {
            next.extend(uses.get(name).into_iter().flatten());
        }
    }
    found
}

fn rooms_of(source: &Source, arrow: &Arrow) -> (String, String) {
    (source.modules[arrow.from].room().to_owned(), source.modules[arrow.to].room().to_owned())
}

fn shown(source: &Source, module: usize) -> String {
    source.modules[module].shown()
}

fn described(source: &Source, arrow: &Arrow) -> String {
    let file = &source.modules[arrow.from].file;
    let file = file.strip_prefix(system::root()).unwrap_or(file);
    format!("{}:{}: {} → {}", file.display(), arrow.line, shown(source, arrow.from), shown(source, arrow.to))
}
