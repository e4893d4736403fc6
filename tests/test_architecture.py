"""No circle of imports, those inside functions included: what can be read in one direction."""

import grimp
import networkx


def test_no_module_imports_itself_by_a_detour() -> None:
    found = grimp.build_graph("edgecompress", exclude_type_checking_imports=True)
    graph = networkx.DiGraph(
        (module, other)
        for module in found.modules
        for other in found.find_modules_directly_imported_by(module)
        if module != "edgecompress"  # its public names are imported when somebody asks for them
    )
    circles = [c for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert circles == []
