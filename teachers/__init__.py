"""Frozen teachers: inputs to features, and logits where the teacher has a head."""

from teachers.assembly import make_teacher
from teachers.backbone import Backbone
from teachers.base import Outputs, Prepare, Prepared, Teacher, TeacherCard
from teachers.devices import resolve_device, resolve_dtype
from teachers.errors import DeviceError, TeacherError, UnknownTeacherError, WeightsError
from teachers.language import Language, Speaker, build_language, load_language
from teachers.network import NetworkTeacher
from teachers.rebuilding import rebuild_prepare, resized, save_prepare
from teachers.registry import load_teacher
from teachers.saved import save_teacher

__all__ = [
    "Backbone",
    "DeviceError",
    "Language",
    "NetworkTeacher",
    "Outputs",
    "Prepare",
    "Prepared",
    "Speaker",
    "Teacher",
    "TeacherCard",
    "TeacherError",
    "UnknownTeacherError",
    "WeightsError",
    "build_language",
    "load_language",
    "load_teacher",
    "make_teacher",
    "rebuild_prepare",
    "resized",
    "resolve_device",
    "resolve_dtype",
    "save_prepare",
    "save_teacher",
]
