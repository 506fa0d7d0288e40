"""What `model/` imports: declare features and outputs, hold the data, return what was fitted."""

from serving.domain.features import Derived, Entity, Feature, FeatureSet, Missing, Operation
from serving.domain.tensors import Datatype
from serving.modeling.dataset import Dataset
from serving.modeling.history import History, Times
from serving.modeling.outputs import Answer, Fitted, Output

__all__ = [
    "Answer",
    "Dataset",
    "Datatype",
    "Derived",
    "Entity",
    "Feature",
    "FeatureSet",
    "Fitted",
    "History",
    "Missing",
    "Operation",
    "Output",
    "Times",
]
