"""Distributions that register a runner."""


def install_runner(site, name, code):
    """Install one into a folder: a module whose function ``open_runner`` opens it."""
    module = f"dvc_{name}"
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        f"[dvc_parallel.runners]\n{name} = {module}:open_runner\n"
    )
