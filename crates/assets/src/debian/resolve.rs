//! Which packages follow from a short list: a pure function of the index, the list and what a guest does without. The
//! answer depends neither on the order of the index nor on the order in which dependencies are met.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::package::Package;
use super::version::compare;
use crate::error::{Error, Result};

/// The wanted packages and everything that they depend on, without what is excluded, by name.
///
/// Of several versions the highest is taken. Of alternatives, one that the list names is taken; otherwise the first that
/// the index can satisfy decides: if it is excluded, the dependency asks for nothing. Of several packages that provide a
/// virtual one, the first by name is taken.
///
/// # Errors
/// [`Error::Unsatisfied`] when nothing satisfies a dependency.
pub fn resolve<'a>(
    packages: &'a [Package],
    wanted: &[String],
    excluded: &[String],
) -> Result<Vec<&'a Package>> {
    let index = Index::new(packages);
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let excluded: BTreeSet<&str> = excluded.iter().map(String::as_str).collect();
    let mut open: Vec<(String, String)> =
        wanted.iter().map(|name| ((*name).to_owned(), "the package list".to_owned())).collect();
    let mut chosen: BTreeMap<&str, &Package> = BTreeMap::new();
    while let Some((relation, needed_by)) = open.pop() {
        let group = parse_group(&relation);
        let found = index
            .choose(&group, &wanted, &excluded)
            .ok_or_else(|| Error::Unsatisfied { relation: relation.clone(), needed_by: needed_by.clone() })?;
        let Some(package) = found else { continue };
        if chosen.insert(&package.name, package).is_none() {
            let relations = package.depends.split(',').map(str::trim).filter(|relation| !relation.is_empty());
            open.extend(relations.map(|relation| (relation.to_owned(), package.name.clone())));
        }
    }
    Ok(chosen.into_values().collect())
}

/// One alternative of a dependency: a name and perhaps a bound on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation<'a> {
    name: &'a str,
    bound: Option<(&'a str, &'a str)>,
}

impl Relation<'_> {
    fn accepts(&self, version: &str) -> bool {
        let Some((operator, bound)) = self.bound else { return true };
        let order = compare(version, bound);
        match operator {
            "=" => order == Ordering::Equal,
            ">=" => order != Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">>" => order == Ordering::Greater,
            "<<" => order == Ordering::Less,
            _ => false,
        }
    }
}

/// `a (>= 1) | b:any [amd64] <!nocheck>` as alternatives; architecture and profile lists do not occur in binary indices.
fn parse_group(text: &str) -> Vec<Relation<'_>> {
    text.split('|').map(str::trim).filter(|word| !word.is_empty()).map(parse_relation).collect()
}

fn parse_relation(text: &str) -> Relation<'_> {
    let (name, rest) = text.split_once([' ', '(']).map_or((text, ""), |(name, rest)| (name, rest));
    let name = name.split(':').next().unwrap_or(name);
    let inner = rest.trim_start_matches([' ', '(']).split(')').next().unwrap_or("").trim();
    let split = inner.find(|sign: char| !matches!(sign, '<' | '>' | '=')).unwrap_or(inner.len());
    let (operator, version) = inner.split_at(split);
    let bound = (!operator.is_empty()).then(|| (operator, version.trim()));
    Relation { name, bound }
}

struct Index<'a> {
    /// The highest version of each name.
    real: BTreeMap<&'a str, &'a Package>,
    /// Who provides a name, with the version that it provides.
    provided: BTreeMap<&'a str, Vec<(&'a Package, Option<&'a str>)>>,
}

impl<'a> Index<'a> {
    fn new(packages: &'a [Package]) -> Self {
        let mut real: BTreeMap<&str, &Package> = BTreeMap::new();
        for package in packages {
            let best = real.entry(&package.name).or_insert(package);
            let order = compare(&package.version, &best.version)
                .then_with(|| best.archive.cmp(&package.archive))
                .then_with(|| best.filename.cmp(&package.filename))
                .then_with(|| best.sha256.cmp(&package.sha256));
            if order == Ordering::Greater {
                *best = package;
            }
        }
        let mut provided: BTreeMap<&str, Vec<(&Package, Option<&str>)>> = BTreeMap::new();
        for package in real.values() {
            for relation in package.provides.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let relation = parse_relation(relation);
                let version = relation.bound.map(|(_, version)| version);
                provided.entry(relation.name).or_default().push((package, version));
            }
        }
        Self { real, provided }
    }

    /// `None`: unsatisfied; `Some(None)`: nothing to add.
    fn choose(
        &self,
        group: &[Relation<'_>],
        wanted: &BTreeSet<&str>,
        excluded: &BTreeSet<&str>,
    ) -> Option<Option<&'a Package>> {
        let named = group.iter().filter(|relation| wanted.contains(relation.name));
        for relation in named.chain(group) {
            if excluded.contains(relation.name) {
                return Some(None);
            }
            if let Some(package) = self.satisfy(relation) {
                return Some((!excluded.contains(package.name.as_str())).then_some(package));
            }
        }
        None
    }

    fn satisfy(&self, relation: &Relation<'_>) -> Option<&'a Package> {
        if let Some(package) =
            self.real.get(relation.name).filter(|package| relation.accepts(&package.version))
        {
            return Some(package);
        }
        let providers = self.provided.get(relation.name)?;
        let fits = |version: &Option<&str>| match version {
            Some(version) => relation.accepts(version),
            None => relation.bound.is_none(),
        };
        providers.iter().find(|(_, version)| fits(version)).map(|(package, _)| *package)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package(name: &str, version: &str, depends: &str, provides: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            depends: depends.into(),
            provides: provides.into(),
            filename: format!("pool/{name}_{version}.deb"),
            ..Package::default()
        }
    }

    fn names(packages: &[Package], wanted: &[&str], excluded: &[&str]) -> Result<String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let chosen = resolve(packages, &owned(wanted), &owned(excluded))?;
        Ok(chosen
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn dependencies_follow_as_the_table_says() {
        let index = [
            package("engine", "26", "lib (>= 2), adduser | passwd, runtime, iptables", ""),
            package("lib", "1", "", ""),
            package("lib", "2.1", "base:any", ""),
            package("base", "1", "lib", ""),
            package("adduser", "3", "perl", ""),
            package("perl", "5", "", ""),
            package("runc", "1.1", "", "runtime"),
            package("crun", "1.8", "", "runtime (= 2)"),
            package("iptables", "1.8", "", ""),
            package("meta", "6.12", "image-6.12 (= 6.12) | image", ""),
            package("image-6.12", "6.12", "", "image"),
        ];
        let table: &[(&[&str], &[&str], &str)] = &[
            (&["lib"], &[], "base=1 lib=2.1"),
            (&["engine"], &["adduser"], "base=1 crun=1.8 engine=26 iptables=1.8 lib=2.1"),
            (&["engine"], &["perl"], "adduser=3 base=1 crun=1.8 engine=26 iptables=1.8 lib=2.1"),
            (&["meta"], &[], "image-6.12=6.12 meta=6.12"),
            (&["meta"], &["image-6.12"], "meta=6.12"),
            (&["iptables", "iptables"], &[], "iptables=1.8"),
        ];
        for (wanted, excluded, expected) in table {
            // A provider without a version satisfies an unversioned name; `crun` comes first by name.
            assert_eq!(
                names(&index, wanted, excluded).unwrap(),
                *expected,
                "{wanted:?} without {excluded:?}"
            );
        }
    }

    #[test]
    fn a_wanted_package_wins_over_an_earlier_alternative() {
        let index = [package("a", "1", "x | y", ""), package("x", "1", "", ""), package("y", "1", "", "")];
        assert_eq!(names(&index, &["a"], &[]).unwrap(), "a=1 x=1");
        assert_eq!(names(&index, &["a", "y"], &[]).unwrap(), "a=1 y=1");
    }

    #[test]
    fn an_unsatisfied_dependency_names_who_needs_it() {
        let index = [package("a", "1", "b (>= 2)", ""), package("b", "1", "", "")];
        let error = names(&index, &["a"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "no package satisfies `b (>= 2)`, which a needs");
    }

    fn arbitrary_index() -> impl Strategy<Value = Vec<Package>> {
        let name = || prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g"]);
        let relation = (name(), prop::option::of(0..3_u8)).prop_map(|(name, bound)| match bound {
            Some(bound) => format!("{name} (>= {bound})"),
            None => name.to_owned(),
        });
        let group = prop::collection::vec(relation, 1..3).prop_map(|group| group.join(" | "));
        let depends = prop::collection::vec(group, 0..3).prop_map(|groups| groups.join(", "));
        let one = (name(), 0..3_u8, depends, prop::option::of(name()));
        let one = one.prop_map(|(name, version, depends, provides)| {
            package(name, &version.to_string(), &depends, provides.unwrap_or(""))
        });
        prop::collection::vec(one, 0..14).prop_map(|mut packages| {
            packages.sort_by(|left, right| left.filename.cmp(&right.filename));
            packages.dedup_by(|left, right| left.filename == right.filename);
            packages
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_index_and_of_the_list_does_not_matter(
            index in arbitrary_index(), shuffled in Just(()).prop_perturb(|(), random| random)) {
            let mut other = index.clone();
            let mut random = shuffled;
            for position in (1..other.len()).rev() {
                other.swap(position, (random.next_u32() as usize) % (position + 1));
            }
            let straight = names(&index, &["a", "b"], &["g"]).ok();
            prop_assert_eq!(&straight, &names(&other, &["b", "a"], &["g"]).ok());
            prop_assert_eq!(&straight, &names(&index, &["a", "b"], &["g"]).ok());
        }
    }
}
