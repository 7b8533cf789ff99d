//! Seeded workloads shared by tests, benches and the demo. The data path may not name it.
