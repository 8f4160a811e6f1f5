//! The paths that patterns refer to, as a tree of names.

/// The number of a path that some pattern refers to.
pub type PathId = u32;

/// Index of a node of [`Paths`].
pub type NodeId = usize;

/// The node of the document itself.
pub const ROOT: NodeId = 0;

/// All paths of a pattern set, as a tree of names.
#[derive(Debug)]
pub struct Paths {
    nodes: Vec<Node>,
    count: u32,
}

#[derive(Debug, Default)]
struct Node {
    path: Option<PathId>,
    /// Sorted by length, then text: the length alone distinguishes most names.
    children: Vec<(Box<str>, NodeId)>,
}

impl Default for Paths {
    fn default() -> Self {
        Paths { nodes: vec![Node::default()], count: 0 }
    }
}

impl Paths {
    /// The id of the path with these names. A new path gets the next id.
    pub fn intern(&mut self, names: &[String]) -> PathId {
        let mut node = ROOT;
        for name in names {
            node = match self.find(node, name) {
                Ok(position) => self.nodes[node].children[position].1,
                Err(position) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.insert(position, (name.as_str().into(), new));
                    new
                }
            };
        }
        let count = &mut self.count;
        *self.nodes[node].path.get_or_insert_with(|| {
            *count += 1;
            *count - 1
        })
    }

    /// The id of the path with these names, if it was interned.
    pub fn get(&self, names: &[String]) -> Option<PathId> {
        let step = |node: NodeId, name: &String| {
            self.find(node, name).ok().map(|position| self.nodes[node].children[position].1)
        };
        self.path(names.iter().try_fold(ROOT, step)?)
    }

    /// The path that ends at `node`.
    pub fn path(&self, node: NodeId) -> Option<PathId> {
        self.nodes[node].path
    }

    /// Returns true if no path continues below `node`.
    pub fn is_leaf(&self, node: NodeId) -> bool {
        self.nodes[node].children.is_empty()
    }

    /// The number of paths. All ids are smaller.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    fn find(&self, node: NodeId, name: &str) -> Result<usize, usize> {
        self.nodes[node]
            .children
            .binary_search_by(|(child, _)| (child.len(), &**child).cmp(&(name.len(), name)))
    }

    fn child(&self, node: NodeId, name: &str) -> Option<NodeId> {
        let children = &self.nodes[node].children;
        if let [(child, index)] = &children[..] {
            return (**child == *name).then_some(*index);
        }
        self.find(node, name).ok().map(|position| children[position].1)
    }

    /// The node of the member `name`. A name with dots descends several levels.
    pub fn step(&self, node: NodeId, name: &str) -> Option<NodeId> {
        if let found @ Some(_) = self.child(node, name) {
            return found;
        }
        if !name.as_bytes().contains(&b'.') {
            return None;
        }
        name.split('.').try_fold(node, |node, part| self.child(node, part))
    }
}
